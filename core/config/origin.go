package config

import "fmt"

// The sources of a value, weakest first.
const (
	SourceDefault = "default"
	SourceFile    = "file"
	SourceEnv     = "env"
	SourceFlag    = "flag"
	SourceStored  = "stored" // kept in the data folder
)

// Origin is where a value came from.
type Origin struct {
	Source string
	Name   string // file, variable or flag
	Line   int    // in a file; 0 = none
}

// String is the form that errors and `config print` show.
func (o Origin) String() string {
	switch o.Source {
	case "", SourceDefault:
		return SourceDefault
	case SourceFile:
		if o.Line > 0 {
			return fmt.Sprintf("%s:%d", o.Name, o.Line)
		}
		return o.Name
	case SourceFlag:
		return "flag --" + o.Name
	}
	return o.Source + " " + o.Name
}

// Notice is something that the operator should know and that does not stop the
// node: a variable without effect, a value that was replaced.
type Notice struct {
	Name string // variable or key
	Text string
}

// String joins the two.
func (n Notice) String() string { return n.Name + ": " + n.Text }

// Origin tells where the value of key came from.
func (c *Config) Origin(key string) Origin {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return Origin{Source: SourceDefault}
}

// Notices lists what Load found worth telling. Shared.
func (c *Config) Notices() []Notice { return c.notices }
