"""The outside. Plain data in and out; time-outs always given; knows no row and no rule."""
