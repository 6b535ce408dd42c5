//! The status file: there while this pod leads, and only then. Whoever removes or changes it meanwhile changes it for seconds only.
//!
//! It appears and disappears whole: written aside and renamed. Where that is impossible, because the path is itself a mount
//! (of one file) or lies in a directory that cannot be written, it is written in place, and emptied instead of removed.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// What others may do with it: read.
const MODE: u32 = 0o644;

#[derive(Clone, Debug)]
pub(super) struct StatusFile {
    path: PathBuf,
    /// Where it is written before it is renamed. The same in each life, so that none stays behind.
    temporary: PathBuf,
    identity: String,
    /// What it permitted when it was written. A file system may have its own idea of it.
    mode: Cell<Option<u32>>,
}

impl StatusFile {
    /// The file at this path, or the file `leader` in the directory that is there. A path that ends with a slash is a directory,
    /// which is made.
    ///
    /// # Errors
    /// For people: the path, and why it can be no status file.
    pub fn new(path: &Path, identity: &str) -> Result<Self, String> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            fs::create_dir_all(path).map_err(|error| {
                let path = path.display();
                format!("the directory {path} of the status file cannot be made: {error}; mount a volume there that this user may write")
            })?;
        }
        let path = if path.is_dir() { path.join("leader") } else { path.to_owned() };
        let Some(name) = path.file_name() else {
            return Err(format!("the status file {} has no name: name a file or a directory", path.display()));
        };
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(format!("the status file {} is something else already: name another path", path.display()));
        }
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(".podium");
        let temporary = path.with_file_name(temporary);
        Ok(Self { path, temporary, identity: identity.into(), mode: Cell::default() })
    }

    /// Removes what a former life left, and tries whether the file can be written.
    ///
    /// # Errors
    /// For people: the path, what went wrong, and the remedy.
    pub fn prepare(&self) -> Result<(), String> {
        self.remove().map_err(|error| self.explain("removed", &error))?;
        let tried = self.write_temporary();
        let _ = fs::remove_file(&self.temporary);
        tried.or_else(|error| if self.is_writable() { Ok(()) } else { Err(self.explain("written", &error)) })
    }

    /// Writes the file, whatever somebody has made of it. Not where that is a directory with something in it.
    ///
    /// # Errors
    /// It is not there then, or empty.
    pub fn write(&self) -> io::Result<()> {
        let written = self.replace().or_else(|error| match error.kind() {
            ErrorKind::IsADirectory => fs::remove_dir(&self.path).map_err(|_| error).and_then(|()| self.replace()),
            ErrorKind::NotFound => {
                let directory = self.path.parent().unwrap_or(&self.path);
                fs::create_dir_all(directory).map_err(|_| error).and_then(|()| self.replace())
            }
            _ if is_in_the_way(&error) => self.write_in_place().map_err(|_| error),
            _ => Err(error),
        });
        self.mode.set(fs::symlink_metadata(&self.path).ok().map(|found| found.permissions().mode()));
        written
    }

    /// Whether the file is as it was written: a file with the identity in it that others may read.
    pub fn is_intact(&self) -> bool {
        let Ok(found) = fs::symlink_metadata(&self.path) else { return false };
        let is_same = found.is_file() && self.mode.get() == Some(found.permissions().mode());
        is_same && fs::read(&self.path).is_ok_and(|content| content == self.identity.as_bytes())
    }

    /// Removes the file, or empties it where it cannot be removed. There may be none.
    ///
    /// # Errors
    /// It may be there still.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            // Nobody's file any more.
            Err(_) if fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_dir()) => Ok(()),
            // The first error says more.
            Err(error) => self.open().and_then(|file| file.set_len(0)).map_err(|_| error),
        }
    }

    /// For people.
    pub fn explain(&self, done: &str, error: &io::Error) -> String {
        let directory = self.path.parent().unwrap_or(&self.path);
        format!(
            "the status file {} cannot be {done}: {error}; mount a volume that this user may write at {}, or name another path",
            self.path.display(),
            directory.display()
        )
    }

    fn replace(&self) -> io::Result<()> {
        let written = self.write_temporary().and_then(|()| fs::rename(&self.temporary, &self.path));
        written.inspect_err(|_| drop(fs::remove_file(&self.temporary)))
    }

    fn write_in_place(&self) -> io::Result<()> {
        let written = self.open().and_then(|mut file| {
            file.set_len(0)?;
            file.write_all(self.identity.as_bytes())
        });
        written.inspect_err(|_| drop(self.remove()))
    }

    fn write_temporary(&self) -> io::Result<()> {
        // Never through a link that somebody else has put there.
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.temporary)?;
        file.write_all(self.identity.as_bytes())?;
        // Whatever the umask is: whoever reads it is somebody else.
        file.set_permissions(Permissions::from_mode(MODE))
    }

    fn is_writable(&self) -> bool {
        self.open().is_ok()
    }

    fn open(&self) -> io::Result<File> {
        // Something else may have been mounted there, for whose other end nobody waits.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        OpenOptions::new().write(true).custom_flags(flags).open(&self.path)
    }
}

/// Whether the directory, or a mount, keeps the file from being replaced.
fn is_in_the_way(error: &io::Error) -> bool {
    let kinds =
        [ErrorKind::ResourceBusy, ErrorKind::CrossesDevices, ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem];
    kinds.contains(&error.kind())
}
