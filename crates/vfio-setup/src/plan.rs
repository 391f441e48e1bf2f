//! Planning of `bind` and `unbind`: all checks are made and all steps are planned before the first write.

use super::hugepages::{Pool, Wanted};
use super::presence::Presence;
use super::reset::Reset;
use super::select::{self, VFIO};
use super::step::{Action, Expect, Ownership, Step, Write};
use super::{Host, Refusal, SetupError, accounts, apply, claims, f2};
use std::path::Path;
use xdma::card::PciAddress;
use xdma::regs::ids::AMAZON;
use xdma::unstable::bus::sysfs::Function;

/// Options of `bind` and `persist`.
#[derive(Clone, Debug, Default)]
pub struct BindOptions {
    /// Accept functions that are not known to be XDMA cards.
    pub any: bool,
    /// Bind without an IOMMU: the card can then access all memory.
    pub no_iommu: bool,
    /// Minimum number of hugepages.
    pub hugepages: Wanted,
    /// NUMA node of the hugepages; by default the node of the functions, if all are on the same node.
    pub node: Option<u32>,
    /// User who owns the nodes.
    pub user: Option<String>,
    /// Group that owns the nodes.
    pub group: Option<String>,
}

/// The steps of `bind` or `unbind`. The plan is empty if there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The functions to bind or unbind.
    pub functions: Vec<PciAddress>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Notes for the administrator.
    pub notes: Vec<String>,
}

pub(super) const NO_IOMMU_RISK: &str = "no-IOMMU mode: nothing confines the card. The card, its design, and every process that may use it can read and write all memory of this machine, including the kernel's. The kernel marks itself as tainted.";
const NO_IOMMU_SWITCH: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

impl Plan {
    /// Creates the plan that binds functions to `vfio-pci`; without names, all XDMA cards.
    ///
    /// # Errors
    ///
    /// [`Refusal`], or a file cannot be read.
    pub fn bind(host: &Host, named: &[PciAddress], options: &BindOptions) -> Result<Self, SetupError> {
        let functions = select::functions(host, named, options.any)?;
        check_presence(host, &functions)?;
        check_groups(host, &functions, options.no_iommu)?;
        let mut plan = Self { functions: addresses(&functions), steps: Vec::new(), notes: Vec::new() };
        for function in &functions {
            plan.notes.extend(claims::notes_on_bind(host, function)?);
            plan.notes.extend(note_on_reset(host, function)?);
            // A function that is already bound may be in use; it stays bound.
            if function.driver()?.as_deref() != Some(VFIO) {
                plan.notes.extend(select::require_idle(host, function)?);
            }
        }
        let owner = ownership(host, options)?;
        plan.hugepages(host, &functions, options)?;
        if !host.path(&format!("sys/bus/pci/drivers/{VFIO}")).is_dir() {
            plan.add(Action::LoadVfio, "the driver vfio-pci is not loaded");
        }
        if options.no_iommu {
            plan.no_iommu(host)?;
        }
        for function in &functions {
            plan.bind_function(host, function)?;
        }
        if let Some(owner) = owner {
            plan.set_owners(host, owner, options.no_iommu)?;
        }
        Ok(plan)
    }

    /// Creates the plan that returns functions to the kernel's own drivers; without names, all XDMA cards that are bound to
    /// `vfio-pci`.
    ///
    /// # Errors
    ///
    /// [`Refusal`], or a file cannot be read.
    pub fn unbind(host: &Host, named: &[PciAddress]) -> Result<Self, SetupError> {
        let functions = select::functions(host, named, true)?;
        let mut plan = Self { functions: Vec::new(), steps: Vec::new(), notes: Vec::new() };
        for function in &functions {
            plan.functions.push(function.address());
            plan.unbind_function(host, function)?;
        }
        if !plan.steps.is_empty() && host.text(NO_IOMMU_SWITCH)?.as_deref() == Some("Y") {
            plan.notes.push(format!(
                "no-IOMMU mode stays enabled; to disable it, type `echo N | sudo tee /{NO_IOMMU_SWITCH}`"
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
                format!("there are {now} {what}, and {count} were requested"),
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
        self.add(action, "the kernel creates groups without an IOMMU only while this mode is enabled");
        Ok(())
    }

    fn bind_function(&mut self, host: &Host, function: &Function) -> Result<(), SetupError> {
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
                format!("from now on, only {VFIO} may bind to {address}"),
            );
        }
        if let Some(driver) = driver {
            let write = driver_write(host, &driver, "unbind", address, Expect::Driver(address, None));
            let back =
                driver_write(host, &driver, "bind", address, Expect::Driver(address, Some(driver.clone())));
            let undo = vec![override_write(function, before), back];
            self.add(Action::Write { write, undo }, format!("the driver {driver} releases {address}"));
        }
        if let Some(time) = f2::settling(host, function)? {
            let why = "its image was loaded a moment ago, and its registers may not answer yet";
            self.add(Action::Wait(time), format!("{address}: {why}"));
        }
        let bound = Expect::Driver(address, Some(VFIO.into()));
        let undo = vec![driver_write(host, VFIO, "unbind", address, Expect::Driver(address, None))];
        self.add(
            Action::Write { write: probe(host, address, bound), undo },
            format!("{VFIO} binds to {address}"),
        );
        Ok(())
    }

    fn set_owners(&mut self, host: &Host, owner: Ownership, no_iommu: bool) -> Result<(), SetupError> {
        for function in self.functions.clone() {
            if apply::is_owned(host, function, owner) {
                continue;
            }
            self.add(
                Action::OwnNodes { function, owner },
                format!("anyone who can open these nodes can use {function}"),
            );
        }
        let shared = [
            ("dev/vfio/vfio", "users of a node in /dev/vfio need it; it grants nothing on its own"),
            ("dev/iommu", "users of a node in /dev/vfio/devices need it; it grants nothing on its own"),
        ];
        for (node, why) in shared {
            let path = host.path(node);
            if needs_owner(host, &path, owner)? {
                self.add(Action::OwnShared { node: path, owner }, why);
            }
        }
        // If the kernel has iommufd, loading the modules creates this node, for root only.
        let loads = self.steps.iter().any(|step| step.action == Action::LoadVfio);
        let iommu = host.path("dev/iommu");
        if loads && !no_iommu && !iommu.exists() {
            self.add(
                Action::OwnShared { node: iommu, owner },
                "users of a node in /dev/vfio/devices need it, if this kernel has such nodes",
            );
        }
        Ok(())
    }

    fn unbind_function(&mut self, host: &Host, function: &Function) -> Result<(), SetupError> {
        let (address, driver) = (function.address(), function.driver()?);
        let bound = driver.as_deref() == Some(VFIO);
        let only = function.driver_override()?.as_deref() == Some(VFIO);
        if bound {
            self.notes.extend(select::require_idle(host, function)?);
            self.add(
                Action::Quiesce { function: address },
                "a killed process leaves its channels configured, and the kernel's own driver would time out on them",
            );
        }
        if only {
            let undo = vec![override_write(function, Some(VFIO.into()))];
            let write = override_write(function, None);
            self.add(Action::Write { write, undo }, format!("any driver may bind to {address} again"));
        }
        if bound {
            let write = driver_write(host, VFIO, "unbind", address, Expect::Driver(address, None));
            let back = driver_write(host, VFIO, "bind", address, Expect::Driver(address, Some(VFIO.into())));
            let undo =
                if only { vec![override_write(function, Some(VFIO.into())), back] } else { vec![back] };
            self.add(Action::Write { write, undo }, format!("{VFIO} releases {address}"));
        }
        self.notes.extend(claims::notes_on_unbind(host, function)?);
        if bound || only && driver.is_none() {
            let write = probe(host, address, Expect::Not(address, VFIO));
            self.add(
                Action::Write { write, undo: Vec::new() },
                format!("the kernel's own driver binds to {address}, if it is loaded"),
            );
        }
        Ok(())
    }
}

fn addresses(functions: &[Function]) -> Vec<PciAddress> {
    functions.iter().map(Function::address).collect()
}

/// Checks that the functions answer as the kernel describes them.
pub(super) fn check_presence(host: &Host, functions: &[Function]) -> Result<(), SetupError> {
    for function in functions {
        match Presence::of(host, function)? {
            Presence::Present => {}
            presence => return Err(Refusal::Lost { address: function.address(), presence }.into()),
        }
    }
    Ok(())
}

/// Returns a note if a reset of the function would also reset other functions.
fn note_on_reset(host: &Host, function: &Function) -> Result<Option<String>, SetupError> {
    let reset = Reset::of(host, function)?;
    let hits_others = !reset.others().is_empty();
    Ok(hits_others.then(|| format!("a reset of {} is possible {reset}", function.address())))
}

/// Checks that a process can use the IOMMU groups of the functions, or that no-IOMMU mode is possible if it was requested.
pub(super) fn check_groups(host: &Host, functions: &[Function], no_iommu: bool) -> Result<(), SetupError> {
    let to_bind = addresses(functions);
    for function in functions {
        let address = function.address();
        match function.iommu_group()? {
            Some(group) if !group.no_iommu && no_iommu => return Err(Refusal::HasIommu(address).into()),
            Some(group) => select::require_viable(host, function, &group, &to_bind)?,
            None if no_iommu => {}
            None if function.vendor()? == AMAZON => return Err(Refusal::NoIommuOnAws(address).into()),
            None => return Err(Refusal::NoIommu(address).into()),
        }
    }
    Ok(())
}

/// Returns the NUMA node of the hugepages: the requested one, or the one that all functions are on.
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

/// Returns whether a shared node must change for `owner`.
///
/// # Errors
///
/// [`Refusal::SharedNode`] if the node was configured for other programs. The node is then not changed.
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
        // A single newline clears the override.
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
