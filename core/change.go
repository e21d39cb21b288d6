package core

// Revision is the number of the last committed change of replicated state.
type Revision uint64

// Kind names a sort of replicated entity; it stands in the change log.
type Kind string

// The kinds of replicated entities.
const (
	KindChannel Kind = "channel"
	KindToken   Kind = "token"
	KindUser    Kind = "user"
	KindGroup   Kind = "group"
	KindOption  Kind = "option"
	KindPrice   Kind = "price"
	KindSession Kind = "session"
)

// Op is what happened to an entity.
type Op string

// The operations.
const (
	OpPut    Op = "put"
	OpDelete Op = "delete"
)

// Change is one line of the change log: ids only, never content.
type Change struct {
	Rev  Revision
	Kind Kind
	ID   string // the primary key as text
	Op   Op
}

// Actor is who makes a change, for the audit log.
type Actor struct {
	UserID    int64 // 0 = the system itself
	Username  string
	IP        string
	RequestID string
	Route     string // "PUT /api/channel/" or the name of a job
}

// SystemActor is the actor of jobs and commands.
func SystemActor(job string) Actor { return Actor{Username: "system", Route: job} }
