//! What `bind` and `unbind` are going to do: every check is made, and every step written down, before the first write.

use super::hugepages::{Pool, Wanted};
use super::select::{self, VFIO};
use super::step::{Action, Expect, Ownership, Step, Write};
use super::{Host, Refusal, SetupError, accounts, apply};
use std::path::Path;
use xdma::bus::PciAddress;
use xdma::bus::sysfs::Function;

/// How functions are bound.
#[derive(Clone, Debug, Default)]
pub struct BindOptions {
    /// Takes functions that are not known to be XDMA cards.
    pub any: bool,
    /// Without an IOMMU: the card is trusted with all memory.
    pub no_iommu: bool,
    /// Pages that there have to be.
    pub hugepages: Wanted,
    /// The NUMA node of the pages; by default the node of the functions, if they have one in common.
    pub node: Option<u32>,
    /// User who gets the nodes.
    pub user: Option<String>,
    /// Group that gets the nodes.
    pub group: Option<String>,
}

/// Steps in order. Nothing to do is an empty plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The functions that it is about.
    pub functions: Vec<PciAddress>,
    /// What is done.
    pub steps: Vec<Step>,
    /// What the administrator should know besides.
    pub notes: Vec<String>,
}

pub(super) const NO_IOMMU_RISK: &str = "no-IOMMU: nothing confines the card. It, its design, and every process that may use it can read and write all memory of this machine, the kernel's included. The kernel marks itself tainted.";
const NO_IOMMU_SWITCH: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

impl Plan {
    /// What binding functions to `vfio-pci` takes.
    ///
    /// # Errors
    ///
    /// [`Refusal`], or something cannot be read.
    pub fn bind(host: &Host, named: &[PciAddress], options: &BindOptions) -> Result<Self, SetupError> {
        let functions = select::functions(host, named, options.any)?;
        check_groups(host, &functions, options.no_iommu)?;
        let mut plan = Self { functions: addresses(&functions), steps: Vec::new(), notes: Vec::new() };
        for function in &functions {
            // One that `vfio-pci` has already is not looked at: its user may be running.
            if function.driver()?.as_deref() != Some(VFIO) {
                plan.notes.extend(select::require_idle(host, function)?);
            }
        }
        let owner = ownership(host, options)?;
        plan.hugepages(host, &functions, options)?;
        if !host.path(&format!("sys/bus/pci/drivers/{VFIO}")).is_dir() {
            plan.add(Action::LoadVfio, "the driver that hands a function to a process is not loaded");
        }
        if options.no_iommu {
            plan.no_iommu(host)?;
        }
        for function in &functions {
            plan.take(host, function)?;
        }
        if let Some(owner) = owner {
            plan.own(host, owner, options.no_iommu)?;
        }
        Ok(plan)
    }

    /// What giving functions back to the kernel's own drivers takes. Without names: all cards that `vfio-pci` has.
    ///
    /// # Errors
    ///
    /// [`Refusal`], or something cannot be read.
    pub fn unbind(host: &Host, named: &[PciAddress]) -> Result<Self, SetupError> {
        let functions = select::functions(host, named, true)?;
        let mut plan = Self { functions: Vec::new(), steps: Vec::new(), notes: Vec::new() };
        for function in &functions {
            plan.functions.push(function.address());
            plan.give_back(host, function)?;
        }
        if !plan.steps.is_empty() && host.text(NO_IOMMU_SWITCH)?.as_deref() == Some("Y") {
            plan.notes.push(format!(
                "no-IOMMU mode stays on until it is switched off: `echo N > /{NO_IOMMU_SWITCH}`"
            ));
        }
        Ok(plan)
    }

    fn add(&mut self, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, why: why.into() });
    }

    fn hugepages(
        &mut self,
        host: &Host,
        functions: &[Function],
        options: &BindOptions,
    ) -> Result<(), SetupError> {
        let node = page_node(functions, options)?;
        for &(size, count) in &options.hugepages.0 {
            let pool = Pool { size, node };
            let now = pool.total(host)?;
            if now >= count {
                continue;
            }
            pool.require_memory(host, count - now)?;
            let what = format!("{} pages{}", size.name(), pool.place());
            let path = host.path(&pool.file());
            let undo = vec![Write {
                path: path.clone(),
                text: now.to_string(),
                expect: Expect::Text(now.to_string()),
            }];
            let write = Write { path, text: count.to_string(), expect: Expect::AtLeast(count, what.clone()) };
            self.add(
                Action::Write { write, undo },
                format!("{now} {what} are there, {count} were asked for"),
            );
        }
        Ok(())
    }

    fn no_iommu(&mut self, host: &Host) -> Result<(), SetupError> {
        self.notes.push(NO_IOMMU_RISK.into());
        if host.text(NO_IOMMU_SWITCH)?.as_deref() == Some("Y") {
            return Ok(());
        }
        let path = host.path(NO_IOMMU_SWITCH);
        let set =
            |text: &str| Write { path: path.clone(), text: text.into(), expect: Expect::Text(text.into()) };
        let action = Action::Write { write: set("Y"), undo: vec![set("N")] };
        self.add(action, "the kernel makes a group without an IOMMU only while this is on");
        Ok(())
    }

    fn take(&mut self, host: &Host, function: &Function) -> Result<(), SetupError> {
        let (address, driver) = (function.address(), function.driver()?);
        if driver.as_deref() == Some(VFIO) {
            return Ok(());
        }
        let before = function.driver_override()?;
        if before.as_deref() != Some(VFIO) {
            let write = override_write(function, Some(VFIO.into()));
            let undo = vec![override_write(function, before.clone())];
            self.add(
                Action::Write { write, undo },
                format!("no driver but {VFIO} may take {address} from here on"),
            );
        }
        if let Some(driver) = driver {
            let write = driver_write(host, &driver, "unbind", address, Expect::Driver(address, None));
            let back =
                driver_write(host, &driver, "bind", address, Expect::Driver(address, Some(driver.clone())));
            let undo = vec![override_write(function, before), back];
            self.add(Action::Write { write, undo }, format!("driver {driver} has {address} and lets go"));
        }
        let bound = Expect::Driver(address, Some(VFIO.into()));
        let undo = vec![driver_write(host, VFIO, "unbind", address, Expect::Driver(address, None))];
        self.add(
            Action::Write { write: probe(host, address, bound), undo },
            format!("{VFIO} takes {address}"),
        );
        Ok(())
    }

    fn own(&mut self, host: &Host, owner: Ownership, no_iommu: bool) -> Result<(), SetupError> {
        for function in self.functions.clone() {
            if apply::is_owned(host, function, owner) {
                continue;
            }
            self.add(Action::OwnNodes { function, owner }, format!("whoever opens these has {function}"));
        }
        let shared = [
            ("dev/vfio/vfio", "opening it grants nothing by itself; a group's owner needs it"),
            (
                "dev/iommu",
                "opening it grants nothing by itself; the owner of a node in /dev/vfio/devices needs it",
            ),
        ];
        for (node, why) in shared {
            let path = host.path(node);
            if needs_owner(host, &path, owner)? {
                self.add(Action::OwnShared { node: path, owner }, why);
            }
        }
        // It comes with the modules, for root alone, where the kernel has it at all.
        let loads = self.steps.iter().any(|step| step.action == Action::LoadVfio);
        let iommu = host.path("dev/iommu");
        if loads && !no_iommu && !iommu.exists() {
            self.add(
                Action::OwnShared { node: iommu, owner },
                "the owner of a node in /dev/vfio/devices needs it, where this kernel has such nodes",
            );
        }
        Ok(())
    }

    fn give_back(&mut self, host: &Host, function: &Function) -> Result<(), SetupError> {
        let (address, driver) = (function.address(), function.driver()?);
        let bound = driver.as_deref() == Some(VFIO);
        let only = function.driver_override()?.as_deref() == Some(VFIO);
        if bound {
            self.notes.extend(select::require_idle(host, function)?);
            self.add(
                Action::Quiesce { function: address },
                "a process that was killed leaves its channels set up, and the kernel's own driver would time out on them",
            );
        }
        if only {
            let undo = vec![override_write(function, Some(VFIO.into()))];
            let write = override_write(function, None);
            self.add(Action::Write { write, undo }, format!("any driver may take {address} again"));
        }
        if bound {
            let write = driver_write(host, VFIO, "unbind", address, Expect::Driver(address, None));
            let back = driver_write(host, VFIO, "bind", address, Expect::Driver(address, Some(VFIO.into())));
            let undo =
                if only { vec![override_write(function, Some(VFIO.into())), back] } else { vec![back] };
            self.add(Action::Write { write, undo }, format!("{VFIO} lets go of {address}"));
        }
        if bound || only && driver.is_none() {
            let write = probe(host, address, Expect::Not(address, VFIO));
            self.add(
                Action::Write { write, undo: Vec::new() },
                format!("the kernel's own driver takes {address}, if it is loaded"),
            );
        }
        Ok(())
    }
}

fn addresses(functions: &[Function]) -> Vec<PciAddress> {
    functions.iter().map(Function::address).collect()
}

/// That the groups of functions can be had by a process, with an IOMMU or without as was asked for.
pub(super) fn check_groups(host: &Host, functions: &[Function], no_iommu: bool) -> Result<(), SetupError> {
    let taken = addresses(functions);
    for function in functions {
        let address = function.address();
        match function.iommu_group()? {
            Some(group) if !group.no_iommu && no_iommu => return Err(Refusal::HasIommu(address).into()),
            Some(group) => select::require_viable(host, function, &group, &taken)?,
            None if no_iommu => {}
            None => return Err(Refusal::NoIommu(address).into()),
        }
    }
    Ok(())
}

/// The node of hugepages: the one that was named, or that all functions are on.
pub(super) fn page_node(functions: &[Function], options: &BindOptions) -> Result<Option<u32>, SetupError> {
    if options.node.is_some() {
        return Ok(options.node);
    }
    let nodes = functions.iter().map(Function::numa_node).collect::<Result<Vec<_>, _>>()?;
    let first = nodes.first().copied().flatten();
    Ok(first.filter(|&node| nodes.iter().all(|&other| other == Some(node))))
}

fn ownership(host: &Host, options: &BindOptions) -> Result<Option<Ownership>, SetupError> {
    let uid = options.user.as_ref().map(|name| accounts::user(host, name)).transpose()?.map(|user| user.id);
    let gid =
        options.group.as_ref().map(|name| accounts::group(host, name)).transpose()?.map(|group| group.id);
    Ok((uid.is_some() || gid.is_some()).then_some(Ownership { uid, gid }))
}

/// Whether a shared node has to change for `owner`. What others set for other programs is never taken from them.
pub(super) fn needs_owner(host: &Host, node: &Path, owner: Ownership) -> Result<bool, SetupError> {
    const ALL_READ_AND_WRITE: u32 = 0o006;
    let Ok(now) = host.kernel().owner(node) else { return Ok(false) };
    let wanted = owner.applied(now);
    if now == wanted || now.mode & ALL_READ_AND_WRITE == ALL_READ_AND_WRITE {
        return Ok(false);
    }
    let ours = |id: u32, wanted: u32| id == 0 || id == wanted;
    if ours(now.uid, wanted.uid) && ours(now.gid, wanted.gid) {
        return Ok(true);
    }
    Err(Refusal::SharedNode { node: host.shown(node), uid: now.uid, gid: now.gid }.into())
}

fn override_write(function: &Function, driver: Option<String>) -> Write {
    Write {
        path: function.directory().join("driver_override"),
        // A newline alone is how the kernel takes "none".
        text: driver.clone().unwrap_or_else(|| "\n".into()),
        expect: Expect::Override(function.address(), driver),
    }
}

fn driver_write(host: &Host, driver: &str, file: &str, address: PciAddress, expect: Expect) -> Write {
    let path = host.path(&format!("sys/bus/pci/drivers/{driver}/{file}"));
    Write { path, text: address.to_string(), expect }
}

fn probe(host: &Host, address: PciAddress, expect: Expect) -> Write {
    Write { path: host.path("sys/bus/pci/drivers_probe"), text: address.to_string(), expect }
}
