"""The Film tab: a film as a storyboard."""
