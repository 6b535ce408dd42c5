//! The watchdog's end of the socket. Never blocks.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, send, sendmsg,
};

use super::message::{FromWatchdog, LONGEST, ToWatchdog, decode, encode};

/// The watchdog's end.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    /// What has arrived of the next line.
    begun: Vec<u8>,
    messages: VecDeque<ToWatchdog>,
    /// The descriptor that came along.
    stdin: Option<OwnedFd>,
}

impl Channel {
    /// The channel on this socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, begun: Vec::new(), messages: VecDeque::new(), stdin: None }
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// The sidecar is gone, or says what is no message.
    pub fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let read = match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.stdin = descriptors.last().or(self.stdin.take());
            }
        }
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.take(&bytes[..read])
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        // There is always a first part. All others begin after the end of a line.
        self.begun.extend_from_slice(lines.next().unwrap_or_default());
        for next in lines {
            let line = std::mem::replace(&mut self.begun, next.to_vec());
            self.messages.push_back(decode(&line)?);
        }
        if self.begun.len() > LONGEST { Err(ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }

    /// The next message that has arrived.
    pub fn next(&mut self) -> Option<ToWatchdog> {
        self.messages.pop_front()
    }

    /// The standard input that came along.
    pub fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.stdin.take()
    }

    /// Tells the sidecar.
    ///
    /// # Errors
    /// It is gone, or has not listened for so long that it is as good as gone.
    pub fn tell(&self, message: &FromWatchdog) -> io::Result<()> {
        let line = encode(message)?;
        let sent = send(&self.socket, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        if sent < line.len() { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends the beginning of the first message with a descriptor. Returns how much was sent.
pub(super) fn send_with(socket: impl AsFd, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&descriptors));
    Ok(sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_arrive_whole_in_whatever_pieces_they_come() {
        let (mut sidecar, socket) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(socket.into());
        channel.fill().unwrap();
        assert_eq!(channel.next(), None);
        sidecar.write_all(b"{\"Withdraw\":{\"grace\":7}}\n{\"Sig").unwrap();
        channel.fill().unwrap();
        sidecar.write_all(b"nal\":15}\n").unwrap();
        channel.fill().unwrap();
        assert_eq!(channel.next(), Some(ToWatchdog::Withdraw { grace: 7 }));
        assert_eq!(channel.next(), Some(ToWatchdog::Signal(15)));
        assert_eq!(channel.next(), None);
    }

    #[test]
    fn garbage_and_the_end_of_the_elector_are_errors() {
        let (mut sidecar, socket) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(socket.into());
        sidecar.write_all(b"hello\n").unwrap();
        assert_eq!(channel.fill().unwrap_err().kind(), ErrorKind::InvalidData);
        drop(sidecar);
        assert_eq!(channel.fill().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_elector_that_does_not_listen_does_not_hold_up_its_keeper() {
        let (_elector, socket) = UnixStream::pair().unwrap();
        let channel = Channel::new(socket.into());
        let told = (0..1_000_000).find(|_| channel.tell(&FromWatchdog::Trouble("x".repeat(1000))).is_err());
        assert!(told.is_some(), "as much was told as nobody can have room for");
    }

    #[test]
    fn a_descriptor_comes_along() {
        let (sidecar, socket) = UnixStream::pair().unwrap();
        let (mut given, passed) = UnixStream::pair().unwrap();
        assert_eq!(send_with(&sidecar, b"{", passed.as_fd()).unwrap(), 1);
        let mut channel = Channel::new(socket.into());
        channel.fill().unwrap();
        given.write_all(b"x").unwrap();
        let mut arrived = UnixStream::from(channel.take_stdin().unwrap());
        let mut byte = [0];
        arrived.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
