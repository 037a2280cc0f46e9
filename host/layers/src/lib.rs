//! The node's cache of layers as block devices, content-addressed, shared by the pods of the node.
//!
//! Contract: nobody trusts it. A guest checks every block that it reads against the root hash in its plan.
