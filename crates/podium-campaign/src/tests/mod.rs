//! Tests of the campaigner case by case, of its properties, and of the driver, all in virtual time.

mod campaigner;
mod driver;
mod fixture;
mod properties;

use crate::*;
