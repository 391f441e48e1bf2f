//! The kernel's archive format for its first file system (`newc`), as far as it is needed here.

/// An archive that grows.
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;

impl Archive {
    pub fn new() -> Self {
        Self { bytes: vec![], entries: 0 }
    }

    pub fn folder(&mut self, path: &str) {
        self.add(path, FOLDER | 0o755, &[]);
    }

    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.add(path, FILE | permissions, content);
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.add(path, LINK | 0o777, to.as_bytes());
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// One entry, owned by root. Names are without a leading slash; a folder comes before what is in it.
    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("no file here is larger than 4 GiB");
        let name = path.len() as u32 + 1;
        // inode, mode, user, group, links, time, size, two pairs of device numbers, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08x}").bytes()));
        self.bytes.extend(path.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_kernel_documents() {
        let mut archive = Archive::new();
        archive.folder("d");
        archive.file("d/f", 0o644, b"hello");
        archive.link("l", "d/f");
        let bytes = archive.finish();
        // Documentation/driver-api/early-userspace/buffer-format.rst: magic, 13 numbers of 8 digits, name, content.
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("07070100000001000041ed0000000000000000000000010000000000000000"),
            "{text:?}"
        );
        assert_eq!(&text[94..112], "0000000200000000d\0");
        assert!(
            text[112 + 110..].starts_with("d/f\x00\x00\x00hello\x00\x00\x00070701"),
            "{:?}",
            &text[200..]
        );
        assert!(text.contains("l\x00d/f\x00070701"), "a link's content is where it leads");
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"));
        assert_eq!(text.len() % 4, 0);
    }
}
