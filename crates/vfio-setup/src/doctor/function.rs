//! Checks of the function itself, which do not depend on the user.

use super::{Check, Context, host, remedy};
use crate::mode::{self, Mode, UnknownMode};
use crate::presence::Presence;
use crate::reset::Reset;
use crate::select::{self, VFIO};
use crate::{SetupError, advice, f2, usage};
use xdma::regs::ids::{AMAZON, Model};

pub(super) fn check(context: &Context, checks: &mut Vec<Check>) -> Result<(), SetupError> {
    checks.push(identity(context)?);
    checks.push(config_space(context));
    checks.extend(image(context)?);
    checks.push(bars(context)?);
    checks.push(link(context)?);
    checks.push(driver(context)?);
    checks.push(iommu(context)?);
    checks.push(group(context)?);
    checks.push(reset(context)?);
    checks.extend(host::rules(context.host, || remedy::persist(context))?);
    checks.push(vfio_mode(context)?);
    checks.push(users(context)?);
    Ok(())
}

fn identity(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "function";
    let (vendor, device) = (context.function.vendor()?, context.function.device()?);
    let id = format!("{vendor:04x}:{device:04x}");
    if context.function.address().is_behind_vmd() {
        return Ok(Check::bad(
            NAME,
            format!("{id}, behind Intel VMD, so it cannot be used from user space"),
            "disable VMD for this slot in the firmware; the card then has an address in domain 0000",
        ));
    }
    if context.function.is_bridge()? {
        return Ok(Check::bad(
            NAME,
            format!("{id}, a bridge"),
            "name the card behind it; `lspci -D -t` shows the tree",
        ));
    }
    Ok(match select::model(&context.function)? {
        Model::Card(name) => Check::good(NAME, format!("{id}, {name}")),
        Model::NoImage => Check::bad(
            NAME,
            format!("{id}: an AWS card without an image"),
            "sudo fpga-load-local-image -S 0 -I AGFI; sudo fpga-describe-local-image -S 0 -R -H   # with the ID of your image",
        ),
        Model::Management => Check::bad(
            NAME,
            format!("{id}: the management function of an AWS F2 card, which only AWS's tools use"),
            "name the card: function 0 of the same device",
        ),
        Model::Unknown => Check::note(
            NAME,
            format!("{id} is not known to be an XDMA card"),
            "this is fine for an image with custom IDs; the last check looks for the XDMA registers",
        ),
    })
}

fn config_space(context: &Context) -> Check {
    const NAME: &str = "config space";
    let presence = context.presence;
    match presence.remedy(context.function.address()) {
        Some(remedy) => Check::bad(NAME, presence.to_string(), remedy),
        None => Check::good(NAME, "the card answers as the kernel describes it"),
    }
}

/// Waits until the registers of a card answer whose image was loaded a moment ago.
fn image(context: &Context) -> Result<Option<Check>, SetupError> {
    let Some(time) = f2::settling(context.host, &context.function)? else { return Ok(None) };
    context.host.kernel().sleep(time);
    let found = format!("loaded a moment ago; waited {} s, until its registers answer", time.as_secs());
    Ok(Some(Check::good("image", found)))
}

const NO_ANSWER: &str = "the kernel shows the card's earlier state, see above";

fn bars(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "BARs";
    const MIN_SIZE: u64 = 0x8000;
    if context.presence != Presence::Present {
        return Ok(Check::skipped(NAME, NO_ANSWER));
    }
    let bars = context.function.bars()?;
    if bars.iter().any(|&size| size >= MIN_SIZE) {
        let sizes = bars.iter().enumerate().filter(|(_, size)| **size > 0);
        let sizes: Vec<_> = sizes.map(|(index, size)| format!("BAR{index} {} KiB", size >> 10)).collect();
        return Ok(Check::good(NAME, sizes.join(", ")));
    }
    Ok(Check::bad(
        NAME,
        "none is large enough for the XDMA registers (32 KiB); is the design loaded?",
        advice::rescan(context.function.address()),
    ))
}

fn link(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "link";
    if context.presence != Presence::Present {
        return Ok(Check::skipped(NAME, NO_ANSWER));
    }
    Ok(match context.function.link()? {
        None => Check::skipped(NAME, "unknown"),
        Some(link) if link.is_degraded() => Check::note(
            NAME,
            format!("{}, the card supports {}", link.now, link.most),
            "transfers are slower; reseat the card, or try another slot",
        ),
        Some(link) => Check::good(NAME, link.now.to_string()),
    })
}

fn driver(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "driver";
    let found = match context.function.driver()? {
        Some(driver) if driver == VFIO => return Ok(Check::good(NAME, driver)),
        Some(driver) => format!("bound to {driver}"),
        None => "not bound to a driver".into(),
    };
    Ok(Check::bad(NAME, found, remedy::bind(context)))
}

fn iommu(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "IOMMU";
    Ok(match context.function.iommu_group()? {
        Some(group) if group.no_iommu => Check::note(
            NAME,
            "none: the card can access all memory of this machine",
            "use a machine with an IOMMU if possible",
        ),
        Some(_) => Check::good(NAME, "the card can access only memory that was mapped for it"),
        None if context.function.vendor()? == AMAZON => Check::bad(
            NAME,
            "none is in use for this function; AWS's virtual instances have none",
            format!(
                "{}   # as AWS's own setup script does; the card can then access all memory of this instance",
                remedy::bind_without_iommu(context)
            ),
        ),
        None => Check::bad(
            NAME,
            "none is in use for this function",
            format!(
                "enable VT-d or AMD-Vi in the firmware, and boot with `intel_iommu=on` on Intel; in a guest without an IOMMU (EC2): `{}`",
                remedy::bind_without_iommu(context)
            ),
        ),
    })
}

fn group(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "group";
    let Some(group) = context.function.iommu_group()? else {
        return Ok(Check::skipped(NAME, "none"));
    };
    let foreign = select::foreign_members(context.host, &group, &[context.function.address()])?;
    if foreign.is_empty() {
        return Ok(Check::good(NAME, format!("{}, not shared with kernel drivers", group.node())));
    }
    let remedy = "bind all members to vfio-pci if they are yours; otherwise move the card to another slot";
    Ok(Check::bad(NAME, format!("{} also contains {}", group.node(), foreign.join(", ")), remedy))
}

fn reset(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "reset";
    let reset = Reset::of(context.host, &context.function)?;
    let found = reset.to_string();
    Ok(match reset {
        Reset::Alone(_) => Check::good(NAME, found),
        Reset::WithOthers(others) if others.is_empty() => Check::good(NAME, found),
        Reset::WithOthers(_) => Check::note(
            NAME,
            found,
            "before such a reset, end all programs that use these functions; the kernel makes such a reset by itself only while all of them are bound to vfio-pci and none is open",
        ),
        Reset::Impossible => Check::note(
            NAME,
            found,
            "opening the card stops its channels; for a full reset, load its image again, or switch the machine off and on",
        ),
    })
}

fn vfio_mode(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "VFIO mode";
    let modes = mode::modes(context.host, &context.function)?;
    let names: Vec<_> = modes.iter().map(Mode::to_string).collect();
    if context.function.driver()?.as_deref() != Some(VFIO) {
        return Ok(Check::skipped(NAME, "none until vfio-pci is bound"));
    }
    let requested = context.options.mode.as_ref();
    Ok(match (context.mode, requested) {
        (Some(Mode::NoIommu), _) => Check::note(
            NAME,
            "noiommu, set by XDMA_VFIO",
            "run only programs that you trust with all memory of this machine",
        ),
        (Some(mode), Some(_)) => Check::good(NAME, format!("{mode}, set by XDMA_VFIO")),
        (Some(_), None) => Check::good(NAME, names.join(", then ")),
        (None, Some(Err(UnknownMode(requested)))) => Check::bad(
            NAME,
            format!("XDMA_VFIO is `{requested}`, which is not a mode"),
            "unset XDMA_VFIO, or set it to cdev, type1 or noiommu",
        ),
        (None, Some(Ok(requested))) => {
            let available = if names.is_empty() { "none".into() } else { names.join(", ") };
            let found = format!("XDMA_VFIO requests {requested}; available: {available}");
            Check::bad(NAME, found, "unset XDMA_VFIO")
        }
        (None, None) if names.is_empty() => {
            let (address, bind) = (context.function.address(), remedy::bind(context));
            let remedy =
                format!("{}; {bind}   # in a container, pass the node in instead", advice::unbind(address));
            Check::bad(NAME, "there is no node for the card in /dev/vfio", remedy)
        }
        (None, None) => Check::bad(
            NAME,
            "noiommu is the only mode, and it is used only on request",
            "export XDMA_VFIO=noiommu   # lets the card access all memory",
        ),
    })
}

fn users(context: &Context) -> Result<Check, SetupError> {
    const NAME: &str = "users";
    let uses = usage::of(context.host, &context.function)?;
    if uses.certain.is_empty() && uses.doubtful.is_empty() {
        return Ok(Check::good(NAME, "no other process that this user can see has it open"));
    }
    if uses.certain.is_empty() {
        let remedy = "check that process if the card cannot be opened; any user can create such a file";
        return Ok(Check::note(NAME, uses.doubtful.join("; "), remedy));
    }
    let uses: Vec<_> = uses.certain.iter().map(ToString::to_string).collect();
    Ok(Check::bad(NAME, uses.join("; "), "end that use first; a card can have only one user at a time"))
}
