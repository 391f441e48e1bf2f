//! Debian packages without root: from the mirrors that this machine's apt is set to, into a private root.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who signs what the mirrors have.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirrors of this machine's own release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors {
    pub main: String,
    pub security: String,
}

impl Mirrors {
    /// As apt's configuration of this machine names them for `release`.
    pub fn of_this_machine(release: &str) -> Result<Self> {
        let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
        let entries = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            text.push_str("\n\n");
            text.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
        Self::parse(&text, release).with_context(|| format!("apt knows no mirror of Debian's {release}"))
    }

    fn parse(text: &str, release: &str) -> Option<Self> {
        let sources = sources(text);
        let of = |suite: &str| sources.iter().find(|(_, suites)| suites.iter().any(|s| s == suite));
        let main = of(release)?.0.clone();
        let security =
            of(&format!("{release}-security")).map_or_else(|| format!("{main}-security"), |s| s.0.clone());
        Some(Self { main, security })
    }
}

/// Address and suites of each source, in the one-line format and in deb822's paragraphs.
fn sources(text: &str) -> Vec<(String, Vec<String>)> {
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    let mut found = vec![];
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(words).unwrap_or_default()
        };
        let suites = field("Suites");
        found.extend(field("URIs").into_iter().map(|address| (address, suites.clone())));
        for line in paragraph.lines().filter_map(|line| line.strip_prefix("deb ")) {
            // Options in brackets come before the address.
            let line = line.split_once(']').map_or(line, |(_, rest)| rest);
            if let [address, suite, ..] = &words(line)[..] {
                found.push((address.clone(), vec![suite.clone()]));
            }
        }
    }
    found.into_iter().map(|(address, suites)| (address.trim_end_matches('/').to_string(), suites)).collect()
}

/// An apt of its own: neither the machine's lists nor its packages nor its lock are touched.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// In `folder`, which must not exist yet, with `sources` such as `http://... bookworm`. `pin` are packages of
    /// a suite that apt would not choose by itself.
    pub fn new(folder: &Path, sources: &[String], pin: Option<(&str, &str)>) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "log"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let lines = sources.iter().map(|source| format!("deb [signed-by={KEYRING}] {source} main\n"));
        fs::write(folder.join("etc/sources.list"), lines.collect::<String>())?;
        let pins = pin.map(|(packages, suite)| {
            format!("Package: {packages}\nPin: release n={suite}\nPin-Priority: 990\n")
        });
        fs::write(folder.join("etc/preferences"), pins.unwrap_or_default())?;
        fs::write(folder.join("status"), "")?;
        let at = folder.display();
        // How to reach a mirror (proxies, credentials) is the machine's own business; what else it has set up, such as
        // commands to run after an update, is not for us.
        let format = "%f \"%v\";%n";
        let machine = output(
            Command::new("apt-config")
                .args(["dump", "--format", format])
                .args(["Acquire::http", "Acquire::https"]),
        )?;
        let configuration = format!(
            "{machine}Dir::State \"{at}/state\"; Dir::State::status \"{at}/status\"; Dir::Cache \"{at}/cache\";\n\
             Dir::Etc \"{at}/etc\"; Dir::Log \"{at}/log\";\n\
             Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n\
             APT::Install-Recommends \"false\"; APT::Architecture \"amd64\"; APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\"; Acquire::Retries \"3\"; Acquire::http::Timeout \"30\";\n"
        );
        fs::write(folder.join("apt.conf"), configuration)?;
        let apt = Self { folder: folder.to_path_buf() };
        apt.run("apt-get", &["-o", "APT::Update::Error-Mode=any", "update"])?;
        Ok(apt)
    }

    /// The package that `package` stands for: its first dependency whose name begins with `start`.
    pub fn stands_for(&self, package: &str, start: &str) -> Result<String> {
        let text = self.run("apt-cache", &["depends", package])?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let name = names.filter(|name| name.starts_with(start)).map(String::from).next();
        name.with_context(|| format!("{package} depends on no {start}"))
    }

    /// Unpacks `packages`, and what they depend on, into `folder`.
    pub fn unpack_with_dependencies(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let mut words = vec!["install", "--yes", "--download-only"];
        words.extend(packages);
        self.run("apt-get", &words)?;
        let archives = self.folder.join("cache/archives");
        for package in debs(&archives)? {
            unpack(&package, folder)?;
            fs::remove_file(package)?;
        }
        Ok(())
    }

    /// Downloads one package alone.
    pub fn download(&self, package: &str) -> Result<PathBuf> {
        let folder = self.folder.join("debs").join(package);
        fs::create_dir_all(&folder)?;
        let mut command = self.command("apt-get");
        output(command.args(["download", package]).current_dir(&folder))?;
        debs(&folder)?.pop().with_context(|| format!("no {package} was downloaded"))
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(self.command(program).args(arguments))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-qq").env("APT_CONFIG", self.folder.join("apt.conf"));
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }
}

fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

/// Unpacks a package without running anything of it.
pub fn unpack(package: &Path, folder: &Path) -> Result<()> {
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder)).map(drop)
}

/// Runs a command that must succeed and returns its standard output; its complaints are in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{what} did not start"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.trim().lines().rev().take(5).collect::<Vec<_>>().join("; ");
    if !output.status.success() {
        bail!("{what} ended with {}: {complaint}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The code name of this machine's release, where it is Debian.
pub fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("no /etc/os-release")?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_string()
    };
    let (id, release) = (value("ID"), value("VERSION_CODENAME"));
    ensure!(id == "debian", "the kernel of the virtual machine is Debian's, and this is {id} {release}");
    Ok(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_found_in_both_formats() {
        let paragraphs = "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian/\n\
                          Suites: bookworm bookworm-updates\nComponents: main\n\n\
                          Types: deb\nURIs: http://security.example/debian-security\nSuites: bookworm-security\n";
        let lines = "# deb http://no.example/debian bookworm main\n\
                     deb [signed-by=/a arch=amd64] http://mirror.example/debian bookworm main\n\
                     deb http://security.example/debian-security bookworm-security main\n";
        for text in [paragraphs, lines] {
            let mirrors = Mirrors::parse(text, "bookworm").unwrap();
            assert_eq!(mirrors.main, "http://mirror.example/debian");
            assert_eq!(mirrors.security, "http://security.example/debian-security");
        }
        assert_eq!(Mirrors::parse(paragraphs, "trixie"), None);
        let alone = Mirrors::parse("deb http://m.example/debian bookworm main", "bookworm").unwrap();
        assert_eq!(alone.security, "http://m.example/debian-security");
    }
}
