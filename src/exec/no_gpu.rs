//! A build without the feature `gpu`: no adapter is ever found, and the reason is said.
//!
//! It stands where `gpu` stands in others, so that whoever asks for a GPU needs no two ways.

/// Adapters, of which there is none.
pub mod adapter {
    use crate::error::{Error, Result};
    use crate::exec::Precision;
    pub use crate::exec::choice::{Choice, Description};

    /// Why there is none.
    const HINT: &str =
        "this program was built for CPUs only: another one, as `cargo install` builds it, uses GPUs";

    /// An adapter: there is none.
    #[derive(Clone, Debug)]
    pub enum Adapter {}

    impl Adapter {
        /// All adapters: none.
        ///
        /// # Errors
        /// Never.
        pub fn all() -> Result<Vec<Adapter>> {
            Ok(Vec::new())
        }

        /// The adapter that is chosen, which is not there.
        ///
        /// # Errors
        /// [`Error::Failed`], always.
        pub fn choose(_: &Choice) -> Result<Adapter> {
            Err(Error::Failed(format!("there is no GPU: {HINT}; choose another `device`")))
        }

        /// The adapter of a list that is chosen: none.
        pub fn among<'a>(_: &'a [Adapter], _: &Choice) -> Option<&'a Adapter> {
            None
        }

        /// Whether a variable says which is taken: of none it need not.
        pub fn is_named_by_variable() -> bool {
            false
        }

        /// The same card by another interface.
        pub fn by_next_interface<'a>(&self, _: &'a [Adapter]) -> Option<&'a Adapter> {
            match *self {}
        }

        /// What keeps a GPU away.
        pub fn hints(_: &[Adapter]) -> Vec<String> {
            vec![HINT.into()]
        }

        /// Name by the driver.
        pub fn name(&self) -> String {
            match *self {}
        }

        /// Whether it computes on the CPU.
        pub fn is_software(&self) -> bool {
            match *self {}
        }

        /// Description for people and JSON.
        pub fn description(&self) -> Description {
            match *self {}
        }

        /// Checks that its shaders can store numbers in this precision.
        ///
        /// # Errors
        /// Never.
        pub fn check_precision(&self, _: Precision) -> Result<()> {
            match *self {}
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn none_is_found_and_the_reason_is_said() {
            let all = Adapter::all().unwrap();
            assert!(Adapter::among(&all, &Choice::Any).is_none());
            let error = Adapter::choose(&Choice::Real).unwrap_err();
            assert!(matches!(error, Error::Failed(_)), "`auto` takes the CPU then");
            assert!(error.to_string().contains("built for CPUs only"), "{error}");
        }
    }
}
