//! A pod's network on the host: its namespace, taps, redirects, and what the guest must know of it.
