//! Unary gRPC over unix sockets and loopback, with limits of its own: client and server.
