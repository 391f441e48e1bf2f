//! The guest's file system: busybox, modules, test programs with the libraries that they need, and a job.

use super::apt::output;
use super::cpio::Archive;
use super::rig::Rig;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Busybox and the programs, with the host's own libraries: the guest runs what the host does, nothing is built again.
///
/// The job is not in it: that differs from boot to boot, and the kernel unpacks archives one after the other.
pub fn small(rig: &Rig, programs: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.folder("bin");
    archive.folder("etc");
    add_common(&mut archive, rig, programs)?;
    let mut libraries = BTreeSet::new();
    for program in programs {
        libraries.extend(libraries_of(program)?);
    }
    add_libraries(&mut archive, &libraries)?;
    Ok(archive.finish())
}

/// Debian's own programs, with theirs.
pub fn debian(rig: &Rig, programs: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for folder in ["bin", "sbin", "lib", "lib64"] {
        archive.link(folder, &format!("usr/{folder}"));
    }
    add_tree(&mut archive, &rig.debian(), &rig.debian())?;
    add_common(&mut archive, rig, programs)?;
    Ok(archive.finish())
}

fn add_common(archive: &mut Archive, rig: &Rig, programs: &[PathBuf]) -> Result<()> {
    for folder in ["dev", "modules", "proc", "run", "sys", "tmp"] {
        archive.folder(folder);
    }
    archive.file("init", 0o755, include_bytes!("init.sh"));
    archive.file("bin/busybox", 0o755, &fs::read(rig.busybox())?);
    archive.file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\ntester:x:1000:1000::/:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\ntester:x:1000:\nfpga:x:2000:tester\n");
    for module in rig.modules()? {
        archive.file(&format!("modules/{}", name(&module)), 0o644, &fs::read(&module)?);
    }
    for program in programs {
        archive.file(&format!("bin/{}", name(program)), 0o755, &fs::read(program)?);
    }
    Ok(())
}

/// Copies of `programs` in `folder`, under the names that they have in the guest, a third as large without their symbols.
pub fn strip(programs: &[&PathBuf], folder: &Path) -> Result<Vec<PathBuf>> {
    let strip = |program: &&PathBuf| {
        // Cargo's test programs end in a hash.
        let name = name(program);
        let stripped =
            folder.join(name.split_once('-').filter(|(_, hash)| hash.len() == 16).map_or(&*name, |(n, _)| n));
        output(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
        Ok(stripped)
    };
    programs.iter().map(strip).collect()
}

/// What a boot does: lines for the shell; and what an earlier one left.
pub fn job(lines: &str, carried: &str) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.file("job", 0o644, lines.as_bytes());
    if !carried.is_empty() {
        archive.file("carried", 0o644, carried.as_bytes());
    }
    archive.finish()
}

/// A folder as it lies on the disk, without documentation.
fn add_tree(archive: &mut Archive, root: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        let name = path.strip_prefix(root)?.to_str().context("a file with a strange name")?.to_string();
        if ["usr/share/doc", "usr/share/man", "usr/share/locale"].contains(&&*name) {
            continue;
        }
        if kind.is_symlink() {
            archive.link(&name, fs::read_link(&path)?.to_str().context("a link to a strange name")?);
        } else if kind.is_dir() {
            archive.folder(&name);
            add_tree(archive, root, &path)?;
        } else {
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            archive.file(&name, mode, &fs::read(&path)?);
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let text = output(Command::new("ldd").arg(program))?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}

fn add_libraries(archive: &mut Archive, libraries: &BTreeSet<PathBuf>) -> Result<()> {
    let mut folders = BTreeSet::new();
    for library in libraries {
        let parents: Vec<_> = library.ancestors().skip(1).filter(|path| *path != Path::new("/")).collect();
        for folder in parents.into_iter().rev() {
            if folders.insert(folder.to_path_buf()) {
                archive.folder(folder.strip_prefix("/")?.to_str().context("a library with a strange name")?);
            }
        }
        let path = library.strip_prefix("/")?.to_str().context("a library with a strange name")?;
        // Through links: a name and a content is all that the loader wants.
        archive.file(path, 0o755, &fs::read(library)?);
    }
    Ok(())
}
