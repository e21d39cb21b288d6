// Package gomysql runs dolthub/go-mysql-server in process: a second reading of
// MySQL 8's grammar and catalogue, since MySQL 8 itself cannot be had on the
// test machine. It has neither InnoDB's locks nor its isolation, so only the
// cases that need none run on it.
package gomysql

import (
	"fmt"
	"io"
	"net"
	"testing"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/sirupsen/logrus"
)

// NewDatabase starts a server with one empty database for this test and
// returns its DSN.
func NewDatabase(t testing.TB) string {
	t.Helper()
	logrus.SetOutput(io.Discard)
	db := memory.NewDatabase("sluice")
	db.BaseDatabase.EnablePrimaryKeyIndexes()
	provider := memory.NewDBProvider(db)
	engine := sqle.NewDefault(provider)
	// In MySQL 8 a session may set this one; here it is known as global and fixed.
	sql.SystemVariables.AddSystemVariables([]sql.SystemVariable{&sql.MysqlSystemVariable{Name: "innodb_lock_wait_timeout", Scope: sql.GetMysqlScope(sql.SystemVariableScope_Both),
		Dynamic: true, Type: types.NewSystemIntType("innodb_lock_wait_timeout", 1, 1<<30, false), Default: int64(50)}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(server.Config{Protocol: "tcp", Address: ln.Addr().String(), Listener: ln}, engine, sql.NewContext, memory.NewSessionBuilder(provider), nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Start() }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return fmt.Sprintf("root@tcp(%s)/sluice", ln.Addr())
}
