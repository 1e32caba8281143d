// Command plantkey damages a stopped node on purpose: it puts a key into, or takes
// it out of, the state database behind the back of everything that keeps replicas
// alike. It is for tests of what is to find such damage.
//
//	plantkey [-delete] STATE-DIRECTORY KEY
//
// KEY is the store's own key in hexadecimal: slot (2 bytes), 10, the user's key.
package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
)

func main() {
	remove := flag.Bool("delete", false, "take the key out again")
	flag.Parse()
	if err := run(flag.Args(), *remove); err != nil {
		fmt.Fprintln(os.Stderr, "plantkey:", err)
		os.Exit(1)
	}
}

func run(args []string, remove bool) error {
	if len(args) != 2 {
		return errors.New("usage: plantkey [-delete] STATE-DIRECTORY KEY")
	}
	key, err := hex.DecodeString(args[1])
	if err != nil {
		return err
	}
	db, err := pebble.Open(args[0], &pebble.Options{
		FormatMajorVersion: pebble.FormatNewest, DisableWAL: true, ErrorIfNotExists: true,
	})
	if err != nil {
		return err
	}
	if remove {
		err = db.Delete(key, pebble.NoSync)
	} else {
		err = db.Set(key, []byte("planted"), pebble.NoSync)
	}
	return errors.Join(err, db.Flush(), db.Close())
}
