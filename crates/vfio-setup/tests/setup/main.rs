//! `vfio-setup` against trees of files that look like a host, with a kernel that reacts to writes as Linux does.

mod binary;
mod bind;
mod doctor;
mod live;
mod persist;
mod refusals;
mod rules;
mod status;
mod support;
