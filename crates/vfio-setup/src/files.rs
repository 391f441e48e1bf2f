//! Configuration files, written by root such that no other user can interfere.
//!
//! Each directory of a path is opened without following links, and must belong to root. A file is written completely under a
//! temporary name and then renamed.

use super::{Host, Refusal, SetupError};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Beginning of the first line of each file. The checksum of the other lines follows.
const MARK: &str = "# vfio-setup persist, checksum ";

/// Maximum size of our files in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Adds the first line, which marks a text as ours.
pub fn sealed(body: &str) -> String {
    format!(
        "{MARK}{:016x}; `vfio-setup undo` removes this file while it is unchanged.\n{body}",
        checksum(body)
    )
}

/// Returns whether `vfio-setup persist` wrote this text and it was not edited since.
pub fn is_ours(text: &str) -> bool {
    text.split_once('\n').is_some_and(|(_, body)| sealed(body) == text)
}

/// Returns the FNV-1a checksum of a text, which detects edits but not deliberate forgery.
fn checksum(body: &str) -> u64 {
    body.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Reads a file. Returns `None` if there is no such file.
pub fn load(host: &Host, path: &str) -> Result<Option<String>, SetupError> {
    let Some((directory, name)) = directory_of(host, path, false)? else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        // A symbolic link is not one of our files.
        Err(Errno::LOOP) => return Ok(Some(String::new())),
        file => file.map_err(|error| failed(host, path, error))?,
    };
    read(file.into()).map(Some).map_err(|error| SetupError::io(&host.path(path), error))
}

/// Reads an open file. Returns an empty text if we could not have written it.
fn read(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    // Other file types may be endless. Reading a directory fails.
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    }
    let text = (bytes.len() as u64 <= MAX_SIZE).then(|| String::from_utf8_lossy(&bytes).into_owned());
    Ok(text.unwrap_or_default())
}

/// Writes a file, and creates its directory if necessary.
pub fn store(host: &Host, path: &str, text: &str) -> Result<(), SetupError> {
    let Some((directory, name)) = directory_of(host, path, true)? else {
        return Err(failed(host, path, Errno::NOENT));
    };
    let temporary = format!(".{name}.{}", std::process::id());
    let failed = |error: io::Error| SetupError::io(&host.path(path), error);
    let file = create(&directory, &temporary).map_err(failed)?;
    let result =
        fill(file, text).and_then(|()| Ok(rustix::fs::renameat(&directory, &temporary, &directory, name)?));
    result.map_err(|error| {
        // The first error is reported. A temporary file that stays behind is not read by any program.
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
        failed(error)
    })
}

/// Removes a file, if it exists.
pub fn remove(host: &Host, path: &str) -> Result<(), SetupError> {
    let Some((directory, name)) = directory_of(host, path, false)? else { return Ok(()) };
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(host, path, error)),
    }
}

/// Creates a file that is readable for all users, whatever the umask is.
fn create(directory: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = File::from(rustix::fs::openat(directory, name, flags, mode)?);
    rustix::fs::fchmod(&file, mode)?;
    Ok(file)
}

fn fill(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Opens the directory of a file. Returns it with the file's name, or `None` if it does not exist and `create` is not set.
fn directory_of<'a>(
    host: &Host,
    path: &'a str,
    create: bool,
) -> Result<Option<(OwnedFd, &'a str)>, SetupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = host.sysfs().root();
    let mut directory =
        rustix::fs::open(root, flags, Mode::empty()).map_err(|error| SetupError::io(root, error.into()))?;
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    for (end, part) in parts(parents) {
        let shown = &parents[..end];
        let open = || rustix::fs::openat(&directory, part, flags | OFlags::NOFOLLOW, Mode::empty());
        let next = match open() {
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(Errno::NOENT) => {
                let made = rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o755));
                made.and_then(|()| open())
            }
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(unsafe_directory(shown, "a symbolic link, or not a directory"));
            }
            next => next,
        };
        directory = next.map_err(|error| failed(host, shown, error))?;
        check(&directory, shown)?;
    }
    Ok(Some((directory, name)))
}

/// Returns the components of a path, each with the offset of its end.
fn parts(path: &str) -> impl Iterator<Item = (usize, &str)> {
    path.split('/').scan(0, |end, part| {
        let start = *end;
        *end = start + part.len() + 1;
        Some((start + part.len(), part))
    })
}

/// Checks that only root, or the user who runs this, can change a directory.
fn check(directory: &OwnedFd, path: &str) -> Result<(), SetupError> {
    let data = rustix::fs::fstat(directory).map_err(|error| SetupError::io(Path::new(path), error.into()))?;
    if data.st_uid != 0 && data.st_uid != rustix::process::geteuid().as_raw() {
        return Err(unsafe_directory(path, "not owned by root"));
    }
    if data.st_mode & 0o022 != 0 {
        return Err(unsafe_directory(path, "writable by users other than its owner"));
    }
    Ok(())
}

fn unsafe_directory(path: &str, reason: &'static str) -> SetupError {
    Refusal::UnsafeDirectory { path: format!("/{path}"), reason }.into()
}

fn failed(host: &Host, path: &str, error: Errno) -> SetupError {
    SetupError::io(&host.path(path), error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_detected() {
        let text = sealed("a line\n");
        assert!(is_ours(&text));
        assert!(!is_ours(&text.replace("line", "word")));
        assert!(!is_ours(&format!("{text}# mine\n")));
        assert!(!is_ours("a line\n") && !is_ours("") && !is_ours(MARK));
    }

    #[test]
    fn components_have_their_end_offsets() {
        let all: Vec<_> = parts("etc/udev/rules.d").collect();
        assert_eq!(all, [(3, "etc"), (8, "udev"), (16, "rules.d")]);
    }
}
