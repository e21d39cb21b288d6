package harness

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Database is a MySQL-compatible server that tests make databases on.
type Database struct {
	base *mysql.Config // an account that may make databases
	addr string
	dir  string // data folder; "" = not ours

	mu    sync.Mutex
	in    io.WriteCloser // commands to the supervisor; closed = the server is killed and its folder removed
	out   *bufio.Reader  // its answers
	pid   int
	alive bool
}

// supervisor starts the server when told to, and ends it and removes its
// folder when its input ends: with the test, however that ends.
const supervisor = `
dir=$1; shift; pid=
while read -r word; do
	case $word in
	start) "$@" </dev/null >>"$dir/server.log" 2>&1 & pid=$!; echo "$pid" ;;
	wait) wait "$pid" 2>/dev/null; pid=; echo ended ;;
	esac
done
[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
wait
rm -rf "$dir"
`

var (
	sharedMariaDB = sync.OnceValues(func() (*Database, error) { return mariaDBIn("") })
	memoryMariaDB = sync.OnceValues(func() (*Database, error) {
		if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
			return mariaDBIn("")
		}
		return mariaDBIn("/dev/shm")
	})
)

func mariaDBIn(dir string) (*Database, error) {
	if dsn := os.Getenv("SLUICE_TEST_MYSQL_DSN"); dsn != "" {
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, fmt.Errorf("SLUICE_TEST_MYSQL_DSN: %w", err)
		}
		return &Database{base: cfg, addr: cfg.Addr}, nil
	}
	return startMariaDB(dir)
}

// MariaDB is the server that all tests of a process share; it ends with the
// process. SLUICE_TEST_MYSQL_DSN names another one instead. A missing server
// fails the test.
func MariaDB(t TB) *Database {
	t.Helper()
	d, err := sharedMariaDB()
	if err != nil {
		t.Fatalf("MariaDB: %v", err)
	}
	return d
}

// MemoryMariaDB is like MariaDB, with its data in memory where the machine has
// /dev/shm: for tests that make very many tables.
func MemoryMariaDB(t TB) *Database {
	t.Helper()
	d, err := memoryMariaDB()
	if err != nil {
		t.Fatalf("MariaDB: %v", err)
	}
	return d
}

// StartMariaDB starts a server for this test alone, to be paused and killed.
func StartMariaDB(t TB) *Database {
	t.Helper()
	d, err := startMariaDB("")
	if err != nil {
		t.Fatalf("MariaDB: %v", err)
	}
	t.Cleanup(d.release)
	return d
}

func startMariaDB(parent string) (*Database, error) {
	server, err := findBinary("mariadbd", "mysqld")
	if err != nil {
		return nil, err
	}
	install, err := findBinary("mariadb-install-db", "mysql_install_db")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "sluice-mariadb")
	if err != nil {
		return nil, err
	}
	// A server removes the temporary tables of others from a shared tmpdir.
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command(install, "--no-defaults", "--user=root", "--datadir="+filepath.Join(dir, "data"), "--tmpdir="+filepath.Join(dir, "tmp"), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--innodb-log-file-size=32M", "--innodb-buffer-pool-size=32M")
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("%s: %w\n%s", install, err, out)
	}
	addr, err := freePort()
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.Timeout = "root", "tcp", addr, 2*time.Second
	d := &Database{base: cfg, addr: addr, dir: dir}
	if err := d.supervise(server); err != nil {
		return nil, err
	}
	if err := d.start(); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

func findBinary(names ...string) (string, error) {
	for _, name := range names {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/bin"} {
			if p := filepath.Join(dir, name); exec.Command("test", "-x", p).Run() == nil {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%s not found: run tests/setup.sh, or set SLUICE_TEST_MYSQL_DSN to a server where databases may be made", names[0])
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// supervise starts the supervisor. Settings are fast, but a commit is on disk
// when it is answered.
func (d *Database) supervise(server string) error {
	_, port, err := net.SplitHostPort(d.addr)
	if err != nil {
		return err
	}
	cmd := exec.Command("sh", "-c", supervisor, "supervisor", d.dir,
		server, "--no-defaults", "--user=root", "--datadir="+filepath.Join(d.dir, "data"), "--tmpdir="+filepath.Join(d.dir, "tmp"), "--socket="+filepath.Join(d.dir, "s"), "--pid-file="+filepath.Join(d.dir, "pid"),
		"--bind-address=127.0.0.1", "--port="+port, "--skip-name-resolve", "--max-connections=500", "--performance-schema=OFF", "--skip-log-bin",
		"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=32M")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for the test
	if d.in, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	d.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return err
	}
	return nil
}

// command sends a word to the supervisor and returns its answer.
func (d *Database) command(word string) (string, error) {
	if _, err := io.WriteString(d.in, word+"\n"); err != nil {
		return "", err
	}
	line, err := d.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (d *Database) start() error {
	line, err := d.command("start")
	if err != nil {
		return err
	}
	if d.pid, err = strconv.Atoi(line); err != nil {
		return err
	}
	d.alive = true
	db, err := sql.Open("mysql", d.DSN(""))
	if err != nil {
		return err
	}
	defer db.Close()
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := db.PingContext(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(d.dir, "server.log"))
			return fmt.Errorf("the server does not answer: %w\n%s", err, log)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// release ends the server and removes its data.
func (d *Database) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in != nil {
		_ = d.in.Close()
		_, _ = d.out.ReadString(0) // until the supervisor has ended
		d.in, d.alive = nil, false
	}
}

// PID is the server's process; 0 if it is not ours or has ended.
func (d *Database) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.alive {
		return 0
	}
	return d.pid
}

// DSN is how to reach a database of this server, for go-sql-driver.
func (d *Database) DSN(name string) string {
	cfg := d.base.Clone()
	cfg.DBName = name
	return cfg.FormatDSN()
}

// NewDatabase makes an empty database for this test and returns its DSN.
func (d *Database) NewDatabase(t TB) string {
	t.Helper()
	name := "sluice_test_" + strings.ToLower(rand.Text()[:16])
	if err := d.exec("CREATE DATABASE " + name + " CHARACTER SET utf8mb4"); err != nil {
		t.Fatalf("make database: %v", err)
	}
	t.Cleanup(func() { _ = d.exec("DROP DATABASE " + name) }) // best effort: the server may be down by then
	return d.DSN(name)
}

func (d *Database) exec(query string) error {
	db, err := sql.Open("mysql", d.DSN(""))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err = db.ExecContext(ctx, query)
	return err
}

func (d *Database) signal(s syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.alive {
		_ = syscall.Kill(d.pid, s)
	}
}

// end sends a signal and waits until the server is gone.
func (d *Database) end(s syscall.Signal) {
	d.signal(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.alive {
		_, _ = d.command("wait")
		d.alive = false
	}
}

// Pause stops the server in its tracks (SIGSTOP): connections stay open and
// nothing answers.
func (d *Database) Pause() { d.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (d *Database) Resume() { d.signal(syscall.SIGCONT) }

// Kill ends the server at once (SIGKILL), as a crash does.
func (d *Database) Kill() { d.end(syscall.SIGKILL) }

// Stop shuts the server down in order.
func (d *Database) Stop() { d.end(syscall.SIGTERM) }

// Restart starts the server again on the same address and data, after Kill or
// Stop or by stopping it.
func (d *Database) Restart(t TB) {
	t.Helper()
	d.Stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.start(); err != nil {
		t.Fatalf("restart MariaDB: %v", err)
	}
}
