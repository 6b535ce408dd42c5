//! The status file, which exists only while this pod leads.
//!
//! It appears and disappears atomically: written as a temporary file and renamed. If that is impossible, because the path is a mount
//! of a single file or its directory is read-only, it is written in place, and emptied instead of removed.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Others may read the file.
const MODE: u32 = 0o644;

#[derive(Clone, Debug)]
pub(super) struct StatusFile {
    path: PathBuf,
    /// Where it is written before it is renamed. Always the same path, so that no file is left over.
    temporary: PathBuf,
    identity: String,
    /// Its mode after it was written. A file system may change the mode.
    mode: Cell<Option<u32>>,
}

impl StatusFile {
    /// Returns the file at this path, or the file `leader` in this directory. A path that ends with a slash is a directory, which is
    /// created.
    ///
    /// # Errors
    /// A message with the path and the remedy.
    pub fn new(path: &Path, identity: &str) -> Result<Self, String> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            fs::create_dir_all(path).map_err(|error| {
                let path = path.display();
                format!("the directory {path} of the status file cannot be created: {error}; mount a volume there that this user may write")
            })?;
        }
        let path = if path.is_dir() { path.join("leader") } else { path.to_owned() };
        let Some(name) = path.file_name() else {
            return Err(format!("the path {} has no file name: name a file or a directory", path.display()));
        };
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(format!("the status file {} exists and is no regular file: name another path", path.display()));
        }
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(".podium");
        let temporary = path.with_file_name(temporary);
        Ok(Self { path, temporary, identity: identity.into(), mode: Cell::default() })
    }

    /// Removes a file that a former process left, and checks that the file can be written.
    ///
    /// # Errors
    /// A message with the path, the cause and the remedy.
    pub fn prepare(&self) -> Result<(), String> {
        self.remove().map_err(|error| self.explain("removed", &error))?;
        let tried = self.write_temporary();
        let _ = fs::remove_file(&self.temporary);
        tried.or_else(|error| if self.is_writable() { Ok(()) } else { Err(self.explain("written", &error)) })
    }

    /// Writes the file, whatever is at its path, except a directory that is not empty.
    ///
    /// # Errors
    /// The file does not exist then, or is empty.
    pub fn write(&self) -> io::Result<()> {
        self.replace().or_else(|error| match error.kind() {
            ErrorKind::IsADirectory => fs::remove_dir(&self.path).map_err(|_| error).and_then(|()| self.replace()),
            ErrorKind::NotFound => {
                let directory = self.path.parent().unwrap_or(&self.path);
                fs::create_dir_all(directory).map_err(|_| error).and_then(|()| self.replace())
            }
            _ if prevents_rename(&error) => self.write_in_place().map_err(|_| error),
            _ => Err(error),
        })
    }

    /// Returns whether the file is unchanged: content and mode.
    pub fn is_intact(&self) -> bool {
        let Ok(found) = fs::symlink_metadata(&self.path) else { return false };
        let is_same = found.is_file() && self.mode.get() == Some(found.permissions().mode());
        is_same && fs::read(&self.path).is_ok_and(|content| content == self.identity.as_bytes())
    }

    /// Removes the file, or empties it if it cannot be removed. It need not exist.
    ///
    /// # Errors
    /// The file may still exist.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            // The path is a directory, so there is no status file.
            Err(_) if fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_dir()) => Ok(()),
            // The first error is more specific.
            Err(error) => self.open().and_then(|file| file.set_len(0)).map_err(|_| error),
        }
    }

    /// Returns a message with path, cause and remedy.
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
            file.write_all(self.identity.as_bytes())?;
            self.remember_mode(&file)
        });
        written.inspect_err(|_| drop(self.remove()))
    }

    fn write_temporary(&self) -> io::Result<()> {
        // Never through a symbolic link.
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.temporary)?;
        file.write_all(self.identity.as_bytes())?;
        // Independent of the umask, because another user reads the file.
        file.set_permissions(Permissions::from_mode(MODE))?;
        self.remember_mode(&file)
    }

    /// Stores the mode before others can change it.
    fn remember_mode(&self, file: &File) -> io::Result<()> {
        self.mode.set(Some(file.metadata()?.permissions().mode()));
        Ok(())
    }

    fn is_writable(&self) -> bool {
        self.open().is_ok()
    }

    fn open(&self) -> io::Result<File> {
        // Does not block if a FIFO was mounted there.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        OpenOptions::new().write(true).custom_flags(flags).open(&self.path)
    }
}

/// Returns whether the directory, or a mount, prevents that the file is replaced.
fn prevents_rename(error: &io::Error) -> bool {
    let kinds =
        [ErrorKind::ResourceBusy, ErrorKind::CrossesDevices, ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem];
    kinds.contains(&error.kind())
}
