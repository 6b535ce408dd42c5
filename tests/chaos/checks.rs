//! The verdict can fail. No cluster is needed.
