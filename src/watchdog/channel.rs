//! The watchdog's end of the socket. It never blocks.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg};

use super::message::{FromWatchdog, LONGEST, ToWatchdog, decode, encode};

/// The watchdog's end of the socket.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    /// The bytes of an incomplete line.
    partial: Vec<u8>,
    messages: VecDeque<ToWatchdog>,
    /// The descriptor that was passed.
    stdin: Option<OwnedFd>,
}

impl Channel {
    /// Returns the channel on this socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, partial: Vec::new(), messages: VecDeque::new(), stdin: None }
    }

    /// Reads the available bytes.
    ///
    /// # Errors
    /// The sidecar has exited, or sent an invalid message.
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
        // The first part completes a line; each later part begins one.
        self.partial.extend_from_slice(lines.next().unwrap_or_default());
        for next in lines {
            let line = std::mem::replace(&mut self.partial, next.to_vec());
            self.messages.push_back(decode(&line)?);
        }
        if self.partial.len() > LONGEST { Err(ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }

    /// Returns the next message.
    pub fn next(&mut self) -> Option<ToWatchdog> {
        self.messages.pop_front()
    }

    /// Returns the standard input that was passed.
    pub fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.stdin.take()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The sidecar has exited, or has not read for so long that the socket is full.
    pub fn send(&self, message: &FromWatchdog) -> io::Result<()> {
        let line = encode(message)?;
        let sent = rustix::net::send(&self.socket, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        if sent < line.len() { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends the beginning of a message with a descriptor. Returns the number of bytes.
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
    fn messages_are_complete_whatever_the_pieces() {
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
    fn invalid_messages_and_the_exit_of_the_sidecar_are_errors() {
        let (mut sidecar, socket) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(socket.into());
        sidecar.write_all(b"hello\n").unwrap();
        assert_eq!(channel.fill().unwrap_err().kind(), ErrorKind::InvalidData);
        drop(sidecar);
        assert_eq!(channel.fill().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn sidecar_that_does_not_read_does_not_block_the_watchdog() {
        let (_elector, socket) = UnixStream::pair().unwrap();
        let channel = Channel::new(socket.into());
        let failed = (0..1_000_000).find(|_| channel.send(&FromWatchdog::Problem("x".repeat(1000))).is_err());
        assert!(failed.is_some(), "the socket is full");
    }

    #[test]
    fn descriptor_is_passed() {
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
