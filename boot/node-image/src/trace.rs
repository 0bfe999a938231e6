//! Trace events to the trace port (postcard, framed by COBS), and a line of the log for each that a person cares about.

use quorate_base::event::{Event, LockPhase, Record, Stall, TraceSink};

use crate::epitaph;
use crate::ports::TRACE_PORT;

/// Bytes of one framed event at most: a view of 64 nodes takes about 500, an epitaph with its events 1,700.
const EVENT_BYTES_MAX: usize = 2048;

/// The node's trace.
pub struct PortTrace;

impl TraceSink for PortTrace {
    fn record(&mut self, record: &Record<'_>) {
        epitaph::record(record);
        let mut frame = [0; EVENT_BYTES_MAX];
        match postcard::to_slice_cobs(record, &mut frame) {
            Ok(bytes) => {
                TRACE_PORT.with(|port| port.queue(bytes));
            }
            // Cannot be: every list in an event is bounded so that it fits. A hole in `seq` would show it.
            Err(_) => defmt::error!("an event does not fit the trace port"),
        }
        log(&record.event);
    }
}

fn log(event: &Event<'_>) {
    match event {
        Event::Boot { version, .. } => defmt::info!("born: version {=str}", version),
        Event::Lock { phase: LockPhase::Acquired, ballot } => defmt::info!("master under ballot {=u64}", ballot.0),
        Event::Lock { phase: LockPhase::Lost, ballot } => {
            defmt::warn!("master lock lost to ballot {=u64}", ballot.0);
        }
        Event::View { name, .. } => defmt::info!("view {=u64} of ballot {=u64}", name.number, name.ballot.0),
        Event::State { subject, incarnation, level: None, is } => {
            defmt::info!("node {=u8} incarnation {=u32} is {=str}", subject.get(), incarnation.0, is.name());
        }
        Event::Suspect { peer, via } => {
            defmt::warn!("node {=u8} is silent on {}", peer.get(), defmt::Debug2Format(via));
        }
        Event::Trust { peer, via } => defmt::info!("node {=u8} is back on {}", peer.get(), defmt::Debug2Format(via)),
        Event::Freeze { why } => defmt::warn!("frozen: {=str}", why),
        Event::Thaw { why } => defmt::info!("thawed: {=str}", why),
        Event::Refuse { peer, reason, .. } => defmt::warn!("refused node {=u8}: {=str}", peer.get(), reason),
        Event::Panic { reason } => defmt::error!("halt: {=str}", reason),
        Event::Halt { reason } => defmt::info!("halt: {=str}", reason),
        Event::Note { what } => defmt::warn!("{=str}", what),
        Event::Waiting(stall) => log_stall("waits", stall),
        Event::Overdue(stall) => log_stall("overdue", stall),
        _ => {}
    }
}

fn log_stall(what: &str, stall: &Stall<'_>) {
    let step = &stall.step;
    defmt::warn!(
        "{=str}: level {=u16} for node {=u8}, not acknowledged for {=u64} ms by {}",
        what,
        step.level.0,
        step.subject.node.get(),
        stall.waited_ms,
        defmt::Display2Format(&stall.awaiting)
    );
}
