//! Recognizes programs that do not load the preload library.

/// Type of the program header that names the dynamic linker.
const PT_INTERP: usize = 3;

/// Returns whether a 64-bit ELF program names a dynamic linker. `bytes` must contain at least the program's headers.
pub fn has_interpreter(bytes: &[u8]) -> bool {
    let word = |at: usize, size: usize| {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    let headers = || Some((word(32, 8)?, word(54, 2)?, word(56, 2)?));
    let Some((first, size, count)) = headers().filter(|_| bytes.get(4) == Some(&2)) else { return false };
    (0..count).any(|number| {
        let at = number.checked_mul(size).and_then(|offset| first.checked_add(offset));
        at.and_then(|at| word(at, 4)) == Some(PT_INTERP)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn dynamically_linked_programs_are_recognized() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(has_interpreter(&this));
        for length in 0..200 {
            // Truncated headers must not cause a panic.
            let _ = has_interpreter(&this[..length]);
        }
        assert!(!has_interpreter(&this[..60]));
        assert!(!has_interpreter(&[0xff; 100]));
    }
}
