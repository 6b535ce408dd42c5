//! Elections: initial leader, overlapping selectors, options, disruption budgets, deletion and re-creation.

mod deletion;
mod deletion_cost;
mod disruption_budgets;
mod initial;
mod options;
mod overlap;
mod recreation;
