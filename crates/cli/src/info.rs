//! The command `xdma info`.

use crate::card::{CardArgs, Subject};
use crate::output;
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use xdma::card::{Card, CardError, ChannelReport, Link, Report};
use xdma::channel::stream::ReceiverOptions;
use xdma::channel::{ChannelOptions, Ring};
use xdma::msm::{Design, MsmOpenError};
use xdma::regs::Direction;

#[derive(Args)]
pub struct Info {
    #[command(flatten)]
    card: CardArgs,
    /// Do not detect the MSM design. Detection reads the user BAR, and user logic that does not answer can stall the whole machine.
    #[arg(long)]
    no_design: bool,
}

impl Info {
    pub fn run(&self, json: bool) -> Result<()> {
        let card = self.card.open()?;
        let report = card.report()?;
        let rings =
            report.channels.iter().map(|channel| rings(&card, channel)).collect::<Result<Vec<_>>>()?;
        let design = if self.no_design { None } else { design(&card)? };
        let subject = self.card.subject(&card)?;
        output::line(&match json {
            true => object(&subject, &report, &rings, design.as_ref()).to_string(),
            false => text(&subject, &report, &rings, design.as_ref()),
        })
    }
}

/// Returns the kinds of ring that a channel supports.
fn rings(card: &Card, channel: &ChannelReport) -> Result<Vec<Ring>> {
    let (direction, index, options) = (channel.direction, channel.index, ChannelOptions::default());
    let ring = match (channel.identifier.is_stream(), direction) {
        (false, _) => card.channel(direction, index, options)?.ring(),
        (true, Direction::H2C) => card.stream_h2c(index, options)?.ring(),
        (true, Direction::C2H) => {
            // Without a posted buffer, no data is removed from the stream.
            let options =
                ReceiverOptions { buffers: 1, bytes: 64, max_posted: 0, ..ReceiverOptions::default() };
            card.stream_c2h(index, options)?.channel().ring()
        }
    };
    Ok(if ring == Ring::Credits { vec![Ring::Credits, Ring::Chain] } else { vec![Ring::Chain] })
}

/// Returns the MSM design, if the card carries it.
fn design(card: &Card) -> Result<Option<Design>> {
    match Design::of(card) {
        Ok(design) => Ok(Some(design)),
        // Another design, or one that does not answer.
        Err(MsmOpenError::NotMsm { .. } | MsmOpenError::OtherCurve(_) | MsmOpenError::Gone) => Ok(None),
        Err(MsmOpenError::Card(CardError::NoUserBar)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn text(subject: &Subject, report: &Report, rings: &[Vec<Ring>], design: Option<&Design>) -> String {
    let mut text = if subject.emulated { format!("emulated card: {report}") } else { report.to_string() };
    let bars = report.bus.bars.iter().enumerate().filter(|(_, size)| **size > 0);
    for (bar, size) in bars {
        let user = Some(bar) == report.user_bar;
        let role = match bar {
            _ if bar == report.register_bar && user => {
                &format!(" (XDMA registers; user logic from {:#x} on)", report.user_offset)
            }
            _ if bar == report.register_bar => " (XDMA registers)",
            _ if user => " (user logic)",
            _ if Some(bar) == report.interrupt_bar => " (interrupt block of the F2 shell)",
            _ => "",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "\nBAR{bar}: {}{role}", crate::number::bytes(*size));
    }
    for same in described_channels(report, rings)
        .chunk_by(|(a, description), (b, other)| a.direction == b.direction && description == other)
    {
        text += "\n";
        text += &channel_range(same[0].0, same[same.len() - 1].0);
        text += &same[0].1;
    }
    match design {
        Some(design) => text + "\n" + &describe_design(design),
        None => text,
    }
}

/// Returns each channel with its description.
fn described_channels<'a>(report: &'a Report, rings: &[Vec<Ring>]) -> Vec<(&'a ChannelReport, String)> {
    let describe = |channel: &ChannelReport, rings: &[Ring]| {
        let ChannelReport { identifier, alignments, .. } = channel;
        let kind = if identifier.is_stream() { "AXI-Stream" } else { "memory-mapped" };
        let rings: Vec<_> = rings.iter().map(Ring::to_string).collect();
        let (bits, address, length) = (alignments.address_bits(), alignments.address(), alignments.length());
        format!(
            ": {kind}, {bits}-bit addresses, address alignment {address}, length granularity {length}; ring: {}; core version {}",
            rings.join(" or "),
            identifier.version()
        )
    };
    report.channels.iter().zip(rings).map(|(channel, rings)| (channel, describe(channel, rings))).collect()
}

/// Names a range of consecutive channels.
fn channel_range(first: &ChannelReport, last: &ChannelReport) -> String {
    match first.index == last.index {
        true => format!("{} channel {}", first.direction, first.index),
        false => format!("{} channels {} to {}", first.direction, first.index, last.index),
    }
}

fn describe_design(design: &Design) -> String {
    format!(
        "MSM design: BN254{}, {}-bit windows, FIFOs of {} scalars and {} points, {} MHz, queue of {} tasks, at most {} pairs per task",
        if design.stub { " (a stub that computes nothing)" } else { "" },
        design.window_bits,
        design.scalar_depth,
        design.point_depth,
        f64::from(design.clock_khz) / 1e3,
        design.tasks,
        design.max_pairs
    )
}

fn object(subject: &Subject, report: &Report, rings: &[Vec<Ring>], design: Option<&Design>) -> Value {
    let link = |link: Link| json!({ "generation": link.generation, "lanes": link.lanes });
    json!({
        "card": subject.name,
        "emulated": subject.emulated,
        "vendor": report.vendor,
        "device": report.device,
        "bus": report.bus.kind,
        "location": report.bus.location,
        "resettable": report.bus.resettable,
        "page_sizes": (0..64).map(|bit| 1u64 << bit).filter(|size| report.bus.page_sizes & size != 0).collect::<Vec<_>>(),
        "iova_bits": report.bus.iova_bits,
        "iova_base": report.address_base,
        "numa_node": report.bus.node,
        "notes": report.bus.notes,
        "vectors": report.bus.vectors,
        "bar_bytes": report.bus.bars,
        "register_bar": report.register_bar,
        "user_bar": report.user_bar,
        "user_offset": report.user_offset,
        "interrupt_bar": report.interrupt_bar,
        "data_width_bytes": report.data_width,
        "max_payload_bytes": report.max_payload,
        "max_read_request_bytes": report.max_read_request,
        "link": report.link.map(|(now, best)| json!({ "now": link(now), "best": link(best) })),
        "channels": report.channels.iter().zip(rings).map(|(at, rings)| channel(at, rings)).collect::<Vec<_>>(),
        "msm": design.map(|design| json!({
            "stub": design.stub,
            "window_bits": design.window_bits,
            "scalar_depth": design.scalar_depth,
            "point_depth": design.point_depth,
            "clock_khz": design.clock_khz,
            "tasks": design.tasks,
            "max_pairs": design.max_pairs,
        })),
    })
}

fn channel(channel: &ChannelReport, rings: &[Ring]) -> Value {
    json!({
        "direction": channel.direction.to_string(),
        "index": channel.index,
        "stream": channel.identifier.is_stream(),
        "core_version": channel.identifier.version(),
        "address_alignment": channel.alignments.address(),
        "length_granularity": channel.alignments.length(),
        "address_bits": channel.alignments.address_bits(),
        "rings": rings.iter().map(Ring::to_string).collect::<Vec<_>>(),
    })
}
