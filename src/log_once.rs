//! A problem that lasts is logged when it begins, not at every attempt.

/// The message that was logged last, until the problem is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOnce(Option<String>);

impl LogOnce {
    /// Stores the message. Returns whether it is to be logged: the one before was another, or the problem was over.
    pub(crate) fn is_new(&mut self, message: &str) -> bool {
        let is_new = self.0.as_deref() != Some(message);
        if is_new {
            self.0 = Some(message.to_owned());
        }
        is_new
    }

    /// Forgets the message, because the problem is over. Returns whether there was one.
    pub(crate) fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Returns the message, while the problem lasts.
    pub(crate) fn message(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_message_is_logged_again_only_after_the_problem_was_over() {
        let mut once = LogOnce::default();
        assert!(!once.clear());
        assert!(once.is_new("no permission"));
        assert!(!once.is_new("no permission"));
        assert!(once.is_new("no response"));
        assert_eq!(once.message(), Some("no response"));
        assert!(once.clear());
        assert!(once.is_new("no response"));
    }
}
