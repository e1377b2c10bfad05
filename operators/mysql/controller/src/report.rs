//! What is reported: status as a pure function of what was observed.
