package core

// Group is a set of users with a price factor and a set of channels. The
// options GroupRatio, UserUsableGroups and GroupGroupRatio are views of the
// rows of this table.
type Group struct {
	Name        string
	Ratio       Ratio            // GroupRatio[name]
	HasRatio    bool             // the name stands in GroupRatio; without, a token's group is deprecated
	Usable      bool             // the name stands in UserUsableGroups
	Description string           // UserUsableGroups[name]
	Ratios      map[string]Ratio // GroupGroupRatio[name]: factor by the group that is used
	Rev         Revision
}
