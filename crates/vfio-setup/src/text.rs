//! Output as text. Colours are escape sequences, which the caller removes if they are not wanted.

use super::Host;
use super::claims::Effect;
use super::doctor::{Diagnosis, Verdict};
use super::mode::Mode;
use super::persist::{ChangeKind, Changes};
use super::plan::Plan;
use super::status::{FunctionStatus, HostStatus, Status};
use anstyle::{AnsiColor, Style};
use std::fmt::Write as _;

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Applies a style to text.
fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

const HEAD: [&str; 8] = ["FUNCTION", "ID", "CARD", "DRIVER", "GROUP", "NUMA", "LINK", "MODES"];
type Row = [(Style, String); HEAD.len()];

/// Formats the output of `status`.
pub fn status(status: &Status) -> String {
    let mut text = functions(status);
    text.push('\n');
    host(&mut text, &status.host);
    text
}

/// Formats the functions of `status`: how each can be opened, and details.
pub fn functions(status: &Status) -> String {
    let mut text = String::new();
    if status.functions.is_empty() {
        text += "no XDMA card was found by its PCI IDs; `vfio-setup status --all` shows every PCI function\n";
    } else {
        text += &table(&status.functions.iter().map(row).collect::<Vec<_>>());
    }
    for function in &status.functions {
        details(&mut text, function);
    }
    for problem in &status.problems {
        let _ = writeln!(text, "{} {problem}", styled(BAD, "unreadable:"));
    }
    text
}

fn row(function: &FunctionStatus) -> Row {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let driver = match function.driver.as_deref() {
        Some("vfio-pci") => GOOD,
        Some(_) => WARN,
        None => DIM,
    };
    let modes: Vec<_> = function.modes.iter().map(Mode::to_string).collect();
    let (modes_style, modes) = match function.modes.as_slice() {
        _ if function.problem.is_some() => (BAD, "does not work".into()),
        [] => (DIM, "-".into()),
        [Mode::NoIommu] => (WARN, Mode::NoIommu.to_string()),
        _ => (GOOD, modes.join(", ")),
    };
    [
        (BOLD, function.address.clone()),
        (PLAIN, function.id.clone()),
        (PLAIN, or_dash(Some(function.card.to_string()).filter(|card| !card.is_empty()))),
        (driver, or_dash(function.driver.clone())),
        (PLAIN, or_dash(function.group.map(|group| group.to_string()))),
        (PLAIN, or_dash(function.numa_node.map(|node| node.to_string()))),
        (
            if function.link_degraded { WARN } else { PLAIN },
            or_dash(function.link.map(|link| link.to_string())),
        ),
        (modes_style, modes),
    ]
}

fn table(rows: &[Row]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].1.chars().count());
        cells.max().unwrap_or(0).max(HEAD[column].len())
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    let line = |text: &mut String, cells: &mut dyn Iterator<Item = (Style, &str)>| {
        for (column, (style, cell)) in cells.enumerate() {
            let fill = if column + 1 == HEAD.len() { 0 } else { widths[column] + 2 - cell.chars().count() };
            let _ = write!(text, "{}{:fill$}", styled(style, cell), "");
        }
        text.push('\n');
    };
    line(&mut text, &mut HEAD.iter().map(|head| (DIM, *head)));
    for row in rows {
        line(&mut text, &mut row.iter().map(|(style, cell)| (*style, cell.as_str())));
    }
    text
}

/// Adds details of a function that are not in the table.
fn details(text: &mut String, function: &FunctionStatus) {
    let mut line = |detail: String| {
        let _ = writeln!(text, "  {} {detail}", styled(DIM, &function.address));
    };
    if let (Some(problem), Some(remedy)) = (&function.problem, &function.remedy) {
        line(styled(BAD, problem));
        line(format!("{} {remedy}", styled(BOLD, "->")));
    }
    if !function.nodes.is_empty() {
        line(format!("nodes {}", function.nodes.join(", ")));
    }
    if !function.group_members.is_empty() {
        line(format!("shares its IOMMU group with {}", function.group_members.join(", ")));
    }
    if let (true, Some(now), Some(most)) = (function.link_degraded, &function.link, &function.link_most) {
        line(styled(WARN, &format!("link runs at {now}, the card supports {most}")));
    }
    if let Some(only) =
        function.driver_override.as_ref().filter(|only| function.driver.as_ref() != Some(only))
    {
        line(format!("driver_override allows only {}", only.escape_debug()));
    }
    for claim in &function.claims {
        let when = if claim.effect == Effect::Later { " when it appears" } else { "" };
        line(format!("{} claims it{when}: {}", claim.driver, claim.setting));
    }
    if !function.reset_hits.is_empty() {
        line(format!("a reset is possible {}", function.reset));
    }
}

fn host(text: &mut String, host: &HostStatus) {
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{:<11}{value}", name);
    };
    let iommu = if host.iommu { styled(GOOD, "in use") } else { styled(WARN, "none") };
    line("IOMMU", iommu);
    line("vfio-pci", if host.vfio_pci { "loaded".into() } else { "not loaded".into() });
    if host.no_iommu_mode == Some(true) {
        line("no-IOMMU", styled(WARN, "enabled: cards bound without an IOMMU can access all memory"));
    }
    let pools = host.hugepages.iter().map(|pool| {
        let place = pool.node.map_or_else(String::new, |node| format!(" on node {node}"));
        format!("{}{place}: {} of {} free", pool.size, pool.free, pool.total)
    });
    let pools = pools.collect::<Vec<_>>().join(", ");
    line("hugepages", if pools.is_empty() { "none".into() } else { pools });
    line("memlock", memlock(host.memlock.as_deref()));
}

fn memlock(limit: Option<&str>) -> String {
    match limit.map(|limit| (limit, limit.parse::<u64>())) {
        Some((_, Ok(bytes))) => format!("{} MiB for this process", bytes >> 20),
        Some((word, Err(_))) => word.into(),
        None => "unknown".into(),
    }
}

/// Formats the output of `plan`, `bind` and `unbind`.
pub fn plan(host: &Host, plan: &Plan, done: bool) -> String {
    let mut text = String::new();
    if plan.steps.is_empty() {
        text += "nothing to do\n";
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "{:>2}. {}", index + 1, styled(BOLD, &step.describe(host)));
        let _ = writeln!(text, "    {}", styled(DIM, step.why()));
    }
    if done && !plan.steps.is_empty() {
        let _ = writeln!(text, "{}", styled(GOOD, "done; each step was verified"));
    }
    text + &notes(&plan.notes)
}

/// Formats the output of `persist` and `undo`.
pub fn changes(changes: &Changes) -> String {
    let mut text = String::new();
    if changes.files.is_empty() {
        text += "nothing to do: `vfio-setup persist` has not written any files\n";
    }
    for file in &changes.files {
        let (style, word) = match file.kind {
            ChangeKind::Created => (GOOD, "created"),
            ChangeKind::Replaced => (GOOD, "replaced"),
            ChangeKind::Unchanged => (DIM, "unchanged"),
            ChangeKind::Removed => (GOOD, "removed"),
            ChangeKind::Kept => (WARN, "kept, because it was edited or not written by `persist`"),
        };
        let _ = writeln!(text, "{}: {}", styled(BOLD, &file.path), styled(style, word));
        for line in file.text.iter().flat_map(|text| text.lines()) {
            let _ = writeln!(text, "    {line}");
        }
    }
    text + &notes(&changes.notes)
}

/// Formats notes for the administrator.
pub fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("{} {note}\n", styled(WARN, "note:"))).collect()
}

/// Formats the output of `doctor` for a function.
pub fn diagnosis(diagnosis: &Diagnosis) -> String {
    let mut text = format!("{}\n", styled(BOLD, &diagnosis.address));
    for check in &diagnosis.checks {
        let (style, word) = match check.verdict {
            Verdict::Good => (GOOD, "ok"),
            Verdict::Note => (WARN, "note"),
            Verdict::Bad => (BAD, "BAD"),
            Verdict::Skipped => (DIM, "-"),
        };
        let _ = writeln!(
            text,
            "  {}{:fill$}{:<13}{}",
            styled(style, word),
            "",
            check.name,
            check.found,
            fill = 6 - word.len()
        );
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "        {} {remedy}", styled(BOLD, "->"));
        }
    }
    text
}
