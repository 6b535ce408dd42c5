//! Elections: initial leader, overlapping selectors, options, deletion and re-creation.

mod deletion;
mod initial;
mod options;
mod overlap;
mod recreation;
