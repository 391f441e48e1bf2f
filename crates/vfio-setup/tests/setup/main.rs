//! Tests of `vfio-setup` with directory trees that imitate a host, and a fake kernel that reacts to writes as Linux does.

mod binary;
mod bind;
mod doctor;
mod live;
mod persist;
mod refusals;
mod rules;
mod status;
mod support;
