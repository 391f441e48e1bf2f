//! What the virtual machine is made of, in a private prefix: a QEMU that knows vfio-user, a Debian kernel, and that kernel's
//! VFIO modules built again with what Debian leaves out (no-IOMMU, and the cdev interface with its iommufd).

use super::apt::{self, Apt, Mirrors, output, unpack};
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

/// Raise it when the prefix is made in another way: an older one is then made anew.
const VERSION: u32 = 4;
/// The release whose kernel is used: modules are built by the machine's own compiler, so both are of one release.
const RELEASE: &str = "bookworm";
const SERIES: &str = "6.12";
/// The cloud flavour is smaller, and boots as fast, but does not know AMD's IOMMU.
const FLAVOUR: &str = "amd64";
/// Where a QEMU of at least 10.1 comes from; it brings its own libraries.
const QEMU_SUITES: [&str; 2] = ["trixie", "trixie-backports"];

/// The parts cannot be had on this machine, or not now; nothing is wrong with this repository.
#[derive(Debug)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no virtual machine here")
    }
}

/// Where the parts are.
#[derive(Clone)]
pub struct Rig {
    folder: PathBuf,
}

impl Rig {
    /// The rig below `prefix`, made first if it is not there. What is half made has another name, so it is never used.
    pub fn install(prefix: &Path) -> Result<Self> {
        let folder = prefix.join(format!("vm-{VERSION}"));
        if !folder.is_dir() {
            let partial = prefix.join(format!("vm-{VERSION}.partial"));
            remove_others(prefix)?;
            fs::create_dir_all(&partial)?;
            make(&partial)?;
            fs::rename(&partial, &folder)?;
        }
        Ok(Self { folder })
    }

    /// Debian's udevadm of the guest, as a program for this machine, whose own may be too old to verify rules.
    pub fn udevadm(&self) -> Result<PathBuf> {
        let path = self.folder.join("udevadm");
        let script = "#!/bin/sh\nD=$(dirname \"$(readlink -f \"$0\")\")/debian; L=$D/usr/lib/x86_64-linux-gnu\n\
            exec $L/ld-linux-x86-64.so.2 --argv0 udevadm --library-path $L:$L/systemd $D/usr/bin/udevadm \"$@\"\n";
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// The rig of a suite, which is skipped where there is none.
    pub fn of(run: &mut Run) -> Result<Option<Self>> {
        match Self::install(&run.workspace.prefix()) {
            Err(error) if error.is::<Unavailable>() => {
                run.tally.skipped.push(format!("{error:#}"));
                Ok(None)
            }
            rig => rig.map(Some),
        }
    }

    /// QEMU, to be run with its own loader and libraries.
    pub fn qemu(&self) -> Command {
        let root = self.folder.join("qemu");
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.env("QEMU_MODULE_DIR", libraries.join("qemu")).arg("--library-path").arg(&libraries);
        command.arg(root.join("usr/bin/qemu-system-x86_64"));
        for data in ["qemu", "seabios"] {
            command.arg("-L").arg(root.join("usr/share").join(data));
        }
        command
    }

    /// What Debian starts a machine with: kmod, systemd, udev.
    pub fn debian(&self) -> PathBuf {
        self.folder.join("debian")
    }

    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// The modules, in the order in which they are loaded.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.folder.join("modules"))?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        Ok(paths)
    }
}

/// Rigs of other versions, and what is half made.
fn remove_others(prefix: &Path) -> Result<()> {
    let entries = fs::read_dir(prefix).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("vm-")) {
        fs::remove_dir_all(entry.path())?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<()> {
    let (work, kernel) = fetch(folder).context(Unavailable)?;
    fs::copy(kernel.root.join("boot").join(format!("vmlinuz-{}", kernel.version)), folder.join("vmlinuz"))?;
    fs::copy(kernel.root.join("bin/busybox"), folder.join("busybox"))?;
    build_modules(&kernel, &folder.join("modules"))?;
    Ok(fs::remove_dir_all(work)?)
}

/// Everything that is downloaded. Returns a folder that is not needed later, and the kernel in it.
fn fetch(folder: &Path) -> Result<(PathBuf, Kernel)> {
    let release = apt::release()?;
    ensure!(
        release == RELEASE,
        "the kernel's modules are built from the sources of Debian's {RELEASE}, by its compiler, and this is {release}"
    );
    let mirrors = Mirrors::of_this_machine(&release)?;
    eprintln!("    installing QEMU and a kernel");
    fetch_qemu(folder, &mirrors)?;
    let work = folder.join("apt-kernel");
    let kernel = fetch_kernel(&work, &mirrors)?;
    Ok((work, kernel))
}

fn fetch_qemu(folder: &Path, mirrors: &Mirrors) -> Result<()> {
    let sources = QEMU_SUITES.map(|suite| format!("{} {suite}", mirrors.main));
    let work = folder.join("apt-qemu");
    let apt = Apt::new(&work, &sources, Some(("qemu-* seabios ipxe-qemu", QEMU_SUITES[1])))?;
    let root = folder.join("qemu");
    apt.unpack_with_dependencies(&["qemu-system-x86"], &root)?;
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    // Usually a link to an absolute path.
    let loader = libraries.join("ld-linux-x86-64.so.2");
    ensure!(loader.is_file(), "{} is missing", loader.display());
    apt.unpack_with_dependencies(&["kmod", "systemd", "udev"], &folder.join("debian"))?;
    Ok(fs::remove_dir_all(work)?)
}

/// The kernel's packages, unpacked, and where they say they are of.
struct Kernel {
    /// Such as `6.12.117+deb12-cloud-amd64`.
    version: String,
    root: PathBuf,
    source: PathBuf,
}

fn fetch_kernel(work: &Path, mirrors: &Mirrors) -> Result<Kernel> {
    let sources = [format!("{} {RELEASE}", mirrors.main), format!("{} {RELEASE}-security", mirrors.security)];
    let apt = Apt::new(work, &sources, None)?;
    let image = apt.stands_for(&format!("linux-image-{SERIES}-{FLAVOUR}"), "linux-image-")?;
    let version = image.trim_start_matches("linux-image-").to_string();
    let common = version.trim_end_matches(&format!("-{FLAVOUR}"));
    let (root, sources) = (work.join("root"), work.join("source"));
    for package in [
        image.clone(),
        format!("linux-headers-{version}"),
        format!("linux-headers-{common}-common"),
        format!("linux-kbuild-{common}"),
        "busybox-static".into(),
    ] {
        unpack(&apt.download(&package)?, &root)?;
    }
    unpack_sources(&apt.download(&format!("linux-source-{SERIES}"))?, &sources)?;
    Ok(Kernel { version, root, source: sources.join(format!("linux-source-{SERIES}")) })
}

/// Of the kernel's sources, only what is built again: the whole is 1.6 GB.
fn unpack_sources(package: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let name = format!("linux-source-{SERIES}");
    let script = format!(
        "set -o pipefail; dpkg-deb --fsys-tarfile \"$1\" | tar -xO ./usr/src/{name}.tar.xz | xz -T0 -dc | \
         tar -x -C \"$2\" {name}/drivers/vfio {name}/drivers/iommu {name}/lib/interval_tree.c"
    );
    output(Command::new("bash").args(["-c", &script, "bash"]).arg(package).arg(folder)).map(drop)
}

/// Configuration of the modules, for the makefiles; what Debian's headers do not have set goes to the compiler too.
const ON: &str = "CONFIG_VFIO=m CONFIG_VFIO_GROUP=y CONFIG_VFIO_CONTAINER=y CONFIG_VFIO_VIRQFD=y CONFIG_VFIO_PCI=m \
     CONFIG_VFIO_PCI_CORE=m CONFIG_VFIO_IOMMU_TYPE1=m CONFIG_VFIO_NOIOMMU=y CONFIG_VFIO_DEVICE_CDEV=y CONFIG_IOMMUFD=m \
     CONFIG_INTERVAL_TREE_SPAN_ITER=y";
const OFF: &str = "CONFIG_DEBUG_INFO_BTF_MODULES CONFIG_VFIO_MDEV CONFIG_VFIO_PLATFORM_BASE CONFIG_VFIO_DEBUGFS \
     CONFIG_MLX5_VFIO_PCI CONFIG_PDS_VFIO_PCI CONFIG_VIRTIO_VFIO_PCI CONFIG_QAT_VFIO_PCI CONFIG_HISI_ACC_VFIO_PCI \
     CONFIG_NVGRACE_GPU_VFIO_PCI";
const COMPILER: &str = "KCFLAGS=-DCONFIG_VFIO_NOIOMMU=1 -DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_IOMMUFD_MODULE=1 \
     -DCONFIG_INTERVAL_TREE_SPAN_ITER=1";
/// In the order in which they are loaded. All are built from one configuration, which decides what their structures hold.
const MODULES: [&str; 5] =
    ["iommufd/iommufd", "vfio/vfio", "vfio/vfio_iommu_type1", "vfio/pci/vfio-pci-core", "vfio/pci/vfio-pci"];

fn build_modules(kernel: &Kernel, folder: &Path) -> Result<()> {
    let build = prepare_build(kernel)?;
    let headers = kernel.root.join(format!("usr/src/linux-headers-{}", kernel.version));
    relocate(&headers.join("Makefile"), &kernel.root)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    make.arg("-s").arg(format!("-j{jobs}")).arg("-C").arg(&headers).arg(format!("M={}", build.display()));
    make.args(ON.split_whitespace()).args(OFF.split_whitespace().map(|name| format!("{name}=")));
    output(make.arg(COMPILER).arg("modules"))?;
    fs::create_dir_all(folder)?;
    let packed = format!("lib/modules/{}/kernel/virt/lib/irqbypass.ko.xz", kernel.version);
    let packed = fs::File::open(kernel.root.join(packed))?;
    let module = fs::File::create(folder.join("0-irqbypass.ko"))?;
    let unpacked = Command::new("xz").arg("-dc").stdin(packed).stdout(module).status()?;
    ensure!(unpacked.success(), "xz could not unpack a module");
    for (number, module) in (1..).zip(MODULES) {
        let built = build.join(format!("{module}.ko"));
        let name = Path::new(module).file_name().unwrap_or_default().to_string_lossy();
        let to = folder.join(format!("{number}-{name}.ko"));
        output(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(built))?;
    }
    Ok(())
}

/// A folder of sources that the kernel's makefiles build as modules.
fn prepare_build(kernel: &Kernel) -> Result<PathBuf> {
    let (source, build) = (&kernel.source, kernel.root.join("build"));
    fs::create_dir_all(&build)?;
    for part in ["drivers/vfio", "drivers/iommu/iommufd", "drivers/iommu/iommu-priv.h"] {
        output(Command::new("cp").arg("-r").arg(source.join(part)).arg(&build))?;
    }
    let tree = fs::read_to_string(source.join("lib/interval_tree.c"))?;
    fs::write(build.join("iommufd/span_iter.c"), span_iterator(&tree)?)?;
    let makefile = build.join("iommufd/Makefile");
    let text = fs::read_to_string(&makefile)?.replace("\tvfio_compat.o", "\tvfio_compat.o span_iter.o");
    ensure!(text.contains("span_iter.o"), "iommufd's makefile is another one than it was");
    fs::write(makefile, text)?;
    fs::write(build.join("Kbuild"), "obj-m += iommufd/ vfio/\n")?;
    Ok(build)
}

/// The part of the interval tree that iommufd needs and that Debian's kernel is built without.
fn span_iterator(tree: &str) -> Result<String> {
    let start = "#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER\n";
    let (_, rest) = tree.split_once(start).context("no span iterator in the kernel's interval tree")?;
    let (part, _) = rest.split_once("\n#endif").context("the span iterator has no end")?;
    let lines = part.lines().filter(|line| !line.starts_with("EXPORT_SYMBOL"));
    let lines: Vec<&str> = lines.collect();
    Ok(format!("#include <linux/interval_tree.h>\n#include <linux/compiler.h>\n{}\n", lines.join("\n")))
}

/// The headers' makefile includes another by its absolute path.
fn relocate(makefile: &Path, root: &Path) -> Result<()> {
    let text = fs::read_to_string(makefile)?;
    let include = format!("include {}/usr/src", root.display());
    Ok(fs::write(makefile, text.replace("include /usr/src", &include))?)
}
