package core

import "time"

// NodeRole is what NODE_TYPE says.
type NodeRole string

// The roles of a node.
const (
	NodeMaster NodeRole = "master"
	NodeSlave  NodeRole = "slave"
	NodeAuto   NodeRole = "auto"
)

// Node is one running gateway. ID lives in the data folder and survives a
// restart; Boot is new at each start.
type Node struct {
	ID        string
	Boot      string
	Name      string
	Role      NodeRole
	Version   string
	Revision  Revision
	StartedAt time.Time
	SeenAt    time.Time
}
