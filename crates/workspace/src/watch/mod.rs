//! What follows a developer's saves.
