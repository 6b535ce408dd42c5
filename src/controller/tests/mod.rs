//! The controller against a scripted API server.

mod act;
mod answers;
mod background;
mod busy;
mod caches;
mod cleanup;
mod clock;
mod disputes;
mod followed;
mod forgets;
mod halts;
mod namespaces;
mod nodes;
mod preemption;

use std::sync::Arc;

use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::act::act;
use super::cleanup::clean_up;
use super::fixtures::*;
use super::key::Kind;
use super::observe::cached::{self, Named};
use super::observe::snapshot::Consulted;
use super::observe::world::{Changes, World};
use super::queue::Outcome;
use super::reconcile::Reconciler;
use super::server::{Read, Refusal, Write};
use super::shared::{Shared, Target};
use super::slots::Slot;
use crate::api::names;
use crate::election::plan::Plan;
use crate::election::snapshot::Snapshot;
