// Package tests holds the rules that the whole tree must keep: which package
// may import which, and the habits that can be checked exactly.
package tests
