//! The broadcaster: takes live input, makes every quality, says what exists and serves it.

pub mod api;
pub mod app;
pub mod check;
pub mod cleanup;
pub mod cli;
pub mod config;
mod demo;
mod disk;
pub mod doctor;
pub mod encoders_cli;
pub mod feed;
pub mod fuzzing;
pub mod ingest;
mod net;
mod notify;
pub mod origin;
pub mod resource;
mod say;
pub mod secret;
pub mod shutdown;
pub mod store;
pub mod stream_cli;
pub mod streams;
pub mod supervise;
#[cfg(test)]
mod testing;
pub mod web;
pub mod worker;
