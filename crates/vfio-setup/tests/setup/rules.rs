//! The udev rules: their syntax, and that they match the same cards as the program.

use crate::support::Tree;
use std::path::{Path, PathBuf};
use std::process::Command;
use vfio_setup::BindOptions;
use vfio_setup::persist::{self, RULES};
use xdma::regs::ids::Model;

/// Installs all rules files that `persist` can write.
fn installed() -> (Tree, Vec<PathBuf>) {
    let tree = Tree::with_card();
    tree.function("0000:00:1e.0", "0x1d0f", "0xabcd", "0x058000");
    tree.group(9, &["0000:00:1e.0"]);
    let both = ["0000:00:1d.0".parse().unwrap(), "0000:00:1e.0".parse().unwrap()];
    let options = BindOptions { any: true, ..BindOptions::default() };
    let changes = persist::persist(&tree.host(), &both, &options).unwrap();
    changes.apply(&tree.host()).unwrap();
    let rules = ["60-xdma.rules", "61-xdma-bind.rules"];
    let paths = rules.map(|name| tree.path("etc/udev/rules.d").join(name)).to_vec();
    (tree, paths)
}

/// Splits a line into keys, operators and values: `KEY{attribute}OPERATOR"value"`.
fn tokens(line: &str) -> Vec<(String, String, String)> {
    let mut rest = line;
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let (key, tail) =
            rest.split_at(rest.find(['=', '!', '+']).unwrap_or_else(|| panic!("no operator: {line}")));
        let (operator, tail) = tail.split_at(tail.find('"').unwrap_or_else(|| panic!("no value: {line}")));
        let (value, tail) = tail[1..].split_once('"').unwrap_or_else(|| panic!("no end of value: {line}"));
        tokens.push((key.to_string(), operator.to_string(), value.to_string()));
        rest = match tail.strip_prefix(", ") {
            Some(rest) => rest,
            None => {
                assert_eq!(tail, "", "{line}");
                tail
            }
        };
    }
    tokens
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_line_is_a_rule() {
    const MATCHES: [&str; 10] =
        ["ACTION", "SUBSYSTEM", "KERNEL", "KERNELS", "ATTR", "DRIVER", "PROGRAM", "RESULT", "TEST", "IMPORT"];
    const ASSIGNMENTS: [&str; 5] = ["GROUP", "MODE", "GOTO", "LABEL", "ATTR"];
    let (_tree, paths) = installed();
    for path in paths {
        let text = std::fs::read_to_string(path).unwrap();
        let (mut targets, mut labels) = (Vec::new(), Vec::new());
        for line in lines(&text) {
            for (key, operator, value) in tokens(line) {
                let name = key.split('{').next().unwrap();
                match operator.as_str() {
                    "==" | "!=" => assert!(MATCHES.contains(&name), "{line}"),
                    "=" => assert!(ASSIGNMENTS.contains(&name) || key == "IMPORT{builtin}", "{line}"),
                    _ => panic!("operator {operator}: {line}"),
                }
                match name {
                    "GOTO" => targets.push(value),
                    "LABEL" => labels.push(value),
                    "MODE" => assert_eq!(value, "0660", "not accessible to all users: {line}"),
                    _ => {}
                }
            }
        }
        targets.sort();
        targets.dedup();
        labels.sort();
        assert_eq!(targets, labels, "every GOTO has a LABEL, and every LABEL has a GOTO");
    }
}

/// Returns whether a udev pattern matches. Supports letters, `?`, sets in brackets, and `*` at both ends.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern = pattern.trim_start_matches('*').trim_end_matches('*');
    let mut rest = text;
    let mut chars = pattern.chars();
    while let Some(next) = chars.next() {
        let Some(first) = rest.chars().next() else { return false };
        let fits = match next {
            '[' => chars.by_ref().take_while(|&c| c != ']').collect::<Vec<_>>().contains(&first),
            '?' => true,
            next => next == first,
        };
        if !fits {
            return false;
        }
        rest = &rest[first.len_utf8()..];
    }
    true
}

#[test]
fn the_rules_match_the_same_cards_as_the_program() {
    let patterns: Vec<_> = lines(RULES)
        .flat_map(tokens)
        .filter(|(key, _, _)| key == "RESULT")
        .map(|(_, _, value)| value)
        .collect();
    assert!(patterns.len() > 5);
    let mut cards = 0;
    for vendor in [0x10ee, 0x1d0f, 0x8086] {
        for device in 0..=u16::MAX {
            let alias = format!("pci:v{vendor:08X}d{device:08X}sv00000000sd00000000bc05sc80i00");
            let known = Model::of(vendor, device).is_card();
            assert_eq!(patterns.iter().any(|p| matches(p, &alias)), known, "{vendor:04x}:{device:04x}");
            cards += u32::from(known);
        }
    }
    assert_eq!(cards, 54 + 256);
}

/// Returns a udevadm that can verify rules, as in systemd 254 and later.
fn udevadm() -> Option<PathBuf> {
    let named = std::env::var_os("XDMA_UDEVADM").map(PathBuf::from);
    let found = ["/usr/bin/udevadm", "/bin/udevadm", "/sbin/udevadm"].map(PathBuf::from);
    named.into_iter().chain(found).find(|path| verifies(path))
}

fn verifies(udevadm: &Path) -> bool {
    let help = Command::new(udevadm).args(["verify", "--help"]).output();
    help.is_ok_and(|output| output.status.success())
}

#[test]
fn udev_accepts_them() {
    let Some(udevadm) = udevadm() else {
        println!("skipped: no udevadm that can verify rules (systemd 254) in /usr/bin or XDMA_UDEVADM");
        return;
    };
    let (_tree, mut paths) = installed();
    paths.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("udev/60-xdma.rules"));
    // The group may not exist on this host, which does not matter here.
    let output =
        Command::new(&udevadm).args(["verify", "--resolve-names=never"]).args(&paths).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{text}");
}

#[test]
fn udev_rejects_wrong_rules() {
    let Some(udevadm) = udevadm() else {
        println!("skipped: no udevadm that can verify rules (systemd 254) in /usr/bin or XDMA_UDEVADM");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("60-bad.rules");
    std::fs::write(&path, "SUBSYSTEM==\"vfio\", GOTO=\"nowhere\"\n").unwrap();
    let output = Command::new(udevadm).arg("verify").arg(path).output().unwrap();
    assert!(!output.status.success());
}
