//! Tests of `vfio-setup` with directory trees that imitate a host, and a fake kernel that reacts to writes as Linux does.

mod advice;
mod binary;
mod bind;
mod claims;
mod doctor;
mod f2;
mod live;
mod persist;
mod presence;
mod refusals;
mod release;
mod reset;
mod rules;
mod shell;
mod status;
mod support;
mod unprepared;
