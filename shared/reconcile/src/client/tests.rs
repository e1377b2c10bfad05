//! The client against a real HTTP server on the loopback interface.
