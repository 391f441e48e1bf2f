//! AWS F2: the time that its registers need after an image is loaded, and the interrupts of programs that use the kernel's `xdma`.

use super::select::{VFIO, XDMA};
use super::{Host, Refusal, SetupError};
use std::time::Duration;
use xdma::card::PciAddress;
use xdma::regs::ids::AMAZON;
use xdma::unstable::bus::sysfs::Function;
use xdma::unstable::card::{F2_SHELL_BAR, ShellInterrupts, is_f2};

/// Registers of an F2 card may not answer for this time after its image was loaded, and an access that times out can leave the
/// interface dead (Xilinx/XRT, pull request 8601).
const SETTLING: f64 = 10.0;

/// Returns the time for which the registers of a card may still not answer because its image was just loaded. Loading an image makes
/// the function disappear and appear again. Returns `None` if that time is over, or if udev did not record when the function appeared.
pub(super) fn settling(host: &Host, function: &Function) -> Result<Option<Duration>, SetupError> {
    if function.vendor()? != AMAZON {
        return Ok(None);
    }
    let noted = host.text(&format!("run/udev/data/+pci:{}", function.address()))?.unwrap_or_default();
    let appeared = noted.lines().find_map(|line| line.strip_prefix("I:")?.parse::<f64>().ok());
    let uptime = host.text("proc/uptime")?.unwrap_or_default();
    let now = uptime.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok());
    let Some((appeared, now)) = appeared.zip(now) else { return Ok(None) };
    let age = now - appeared / 1e6;
    let recent = (0.0..SETTLING).contains(&age);
    Ok(recent.then(|| Duration::from_secs((SETTLING - age).ceil() as u64)))
}

/// Makes the shells of F2 cards that are bound to the kernel's `xdma` deliver the interrupts of an engine in the custom logic, or, with
/// `disable`, no longer. Returns what was done, a sentence for each card.
///
/// # Errors
///
/// A [`Refusal`], in which case nothing was changed; or the kernel does not allow access to the BAR.
pub fn set_up_interrupts(
    host: &Host,
    named: &[PciAddress],
    disable: bool,
) -> Result<Vec<String>, SetupError> {
    host.require_root()?;
    for &address in named {
        check(&host.sysfs().function(address)?)?;
    }
    named.iter().map(|&address| set_up(host, address, disable)).collect()
}

fn check(function: &Function) -> Result<(), SetupError> {
    let address = function.address();
    if !is_f2(function.bars()?) {
        return Err(Refusal::NotF2(address).into());
    }
    match function.driver()?.as_deref() {
        Some(XDMA) => Ok(()),
        Some(VFIO) => Err(Refusal::InterruptsOfVfio(address).into()),
        _ => Err(Refusal::InterruptsWithoutDriver(address).into()),
    }
}

fn set_up(host: &Host, address: PciAddress, disable: bool) -> Result<String, SetupError> {
    let file = format!("sys/bus/pci/devices/{address}/resource{F2_SHELL_BAR}");
    let path = host.path(&file);
    let failed = |reason: String| SetupError::Failed { step: format!("/{file}"), reason, left: Vec::new() };
    let bar = host.kernel().map_bar(&path).map_err(|error| {
        failed(format!(
            "{error}. If the kernel protects BARs that a driver uses (CONFIG_IO_STRICT_DEVMEM), boot with `iomem=relaxed`; if it is locked down (secure boot), load the module with `poll_mode=1` instead"
        ))
    })?;
    let shell = ShellInterrupts::find(bar).map_err(|error| failed(error.to_string()))?;
    let shell = shell.ok_or(Refusal::NoShellBlock(address))?;
    let (done, result) = match disable {
        false => {
            ("delivers the interrupts of lines 0 to 15, each with the vector of its number", shell.enable())
        }
        true => ("delivers no interrupts", shell.reset()),
    };
    result.map_err(|error| failed(error.to_string()))?;
    let enabled = shell.is_enabled().map_err(|error| failed(error.to_string()))?;
    match enabled != disable {
        true => Ok(format!("the shell of {address} {done}")),
        false => Err(failed("its registers do not read back the values that were written".into())),
    }
}
