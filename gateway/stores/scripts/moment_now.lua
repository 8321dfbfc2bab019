-- ARGV: epoch.  Gives the incarnation and the last place.
return incarnation() .. string.format(' %.0f', last)
