//! Marks of connections (socket(7), SO_MARK), by which the rules of agent and relay know each other's work. They mean
//! something in the target's network namespace alone.

/// The agent's own connections to the target: nobody redirects them.
pub(crate) const AGENT_MARK: u32 = 0x0062_6f75;

/// Connections from outside to the target, made by its relay: the relay leaves them alone, the agent does not.
pub(crate) const INWARD_MARK: u32 = 0x0062_6f76;

/// Connections that the target makes and its relay takes: they are nobody's who asks for the target's ports.
pub(crate) const OUTWARD_MARK: u32 = 0x0062_6f77;
