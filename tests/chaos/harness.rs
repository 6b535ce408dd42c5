//! What the end-to-end tests stand on, too.

#[path = "../e2e/harness/controller.rs"]
pub mod controller;
#[path = "../e2e/harness/waiting.rs"]
pub mod waiting;
