//! The commands that `doctor` suggests. Each command is planned first. If it would be refused, the reason is shown instead.

use super::Context;
use crate::hugepages::{PageSize, Wanted};
use crate::select;
use crate::{BindOptions, Host, Plan, Refusal, SetupError, accounts, advice, persist};
use xdma::card::PciAddress;
use xdma::regs::ids::Model;

/// Returns the command that binds the function for the group of its users.
pub(super) fn bind(context: &Context) -> String {
    let group = Some(advice::bind_group(context.host));
    planned_bind(context, BindOptions { group, ..advice::options(&context.function) })
}

/// Returns the command that binds the function without an IOMMU.
pub(super) fn bind_without_iommu(context: &Context) -> String {
    let group = Some(advice::bind_group(context.host));
    planned_bind(context, BindOptions { group, no_iommu: true, ..advice::options(&context.function) })
}

/// Returns the command that reserves hugepages of 2 MiB, and changes nothing else about a bound function.
pub(super) fn hugepages(context: &Context, count: u64) -> String {
    let hugepages = Wanted(vec![(PageSize::Huge2M, count)]);
    planned_bind(context, BindOptions { hugepages, ..advice::options(&context.function) })
}

fn planned_bind(context: &Context, options: BindOptions) -> String {
    let (host, named) = (context.host, [context.function.address()]);
    if select::model(&context.function).is_ok_and(|model| model == Model::NoImage) {
        return "see function above".into();
    }
    let command = advice::bind_with(host, &named, &options);
    or_reason(command, Plan::bind(host, &named, &with_existing_group(host, options)))
}

/// Returns the command that persists the binding of the function and keeps the persisted configuration.
pub(super) fn persist(context: &Context) -> String {
    match advice::to_persist(context.host, Some(&context.function)) {
        Ok((named, options)) => planned_persist(context.host, &named, options),
        Err(error) => error.to_string(),
    }
}

/// Returns the command that persists a number of 2 MiB hugepages if some are missing. The command keeps the persisted
/// configuration, or binds all cards if there is none.
pub(super) fn persist_host(host: &Host, missing_pages: Option<u64>, no_iommu: bool) -> String {
    match advice::to_persist(host, None) {
        Ok((named, mut options)) => {
            options.no_iommu |= no_iommu;
            if let Some(count) = missing_pages.filter(|&count| !persisted_pages(host, count)) {
                options.hugepages.0.retain(|(size, _)| *size != PageSize::Huge2M);
                options.hugepages.0.push((PageSize::Huge2M, count));
            }
            planned_persist(host, &named, options)
        }
        Err(error) => error.to_string(),
    }
}

/// Returns whether at least this number of hugepages of 2 MiB is persisted already.
pub(super) fn persisted_pages(host: &Host, count: u64) -> bool {
    let installed = persist::installed(host).map(|(_, options)| options.hugepages.0).unwrap_or_default();
    installed.iter().any(|&(size, persisted)| size == PageSize::Huge2M && persisted >= count)
}

fn planned_persist(host: &Host, named: &[PciAddress], options: BindOptions) -> String {
    let command = advice::persist_with(host, named, &options);
    let mut options = with_existing_group(host, options);
    // `persist` needs a group that exists. A placeholder, 0, stands for the group that the command creates first.
    options.group.get_or_insert_with(|| "0".into());
    or_reason(command, persist::persist(host, named, &options))
}

/// Removes the group from the options if it does not exist, because the command creates it before it binds.
fn with_existing_group(host: &Host, options: BindOptions) -> BindOptions {
    let group = options.group.filter(|group| accounts::group(host, group).is_ok());
    BindOptions { group, ..options }
}

fn or_reason<T>(command: String, planned: Result<T, SetupError>) -> String {
    match planned {
        Ok(_) => command,
        Err(SetupError::Refused(refusal)) => match refusal {
            Refusal::InUse { .. } => format!("end its uses first (see users), then `{command}`"),
            Refusal::ForeignMembers { .. } => "see group".into(),
            Refusal::NoIommu(_) | Refusal::NoIommuOnAws(_) => "see IOMMU".into(),
            Refusal::Lost { .. } => "see config space".into(),
            Refusal::BehindVmd(_) | Refusal::Bridge(_) | Refusal::Management(_) => "see function".into(),
            other => other.to_string(),
        },
        Err(error) => error.to_string(),
    }
}
