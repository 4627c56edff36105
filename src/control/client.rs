//! The asking side of the control socket.
