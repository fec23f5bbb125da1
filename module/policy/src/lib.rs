//! The huge page policy of solana_optimizer: a pure function from state and sample to state and action.
