//! Calls about a dictionary of several nodes as a whole: each manager does its part where its keys are, all at the same time.
