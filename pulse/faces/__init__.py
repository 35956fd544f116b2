"""Find faces in pictures, align them, and tell how much detail a picture really holds."""
