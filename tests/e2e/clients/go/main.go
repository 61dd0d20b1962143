// A Go service in small. Told nothing it connects by DATABASE_URL with pgx, and told `pq` with lib/pq; it changes a row
// and says what it then sees, and where. Told a URL, it fetches that by net/http and says what it gets. Told `serve`, a
// name and a port, it answers there by its name. Which address a name has is said on stderr.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/lib/pq"
)

const take = "UPDATE products SET stock_quantity = stock_quantity - $1 WHERE product_id = $2"
const ask = "SELECT stock_quantity, current_setting('cluster_name') FROM products WHERE product_id = $1"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch {
	case len(words) == 0:
		return askByPgx(ctx)
	case words[0] == "pq":
		return askByPq(ctx)
	case words[0] == "serve":
		return serve(words[1], words[2])
	default:
		return fetch(ctx, words[0])
	}
}

// Says the address of a URL's host.
func lookUp(ctx context.Context, text string) error {
	parsed, err := url.Parse(text)
	if err != nil {
		return err
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, parsed.Hostname())
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, parsed.Hostname(), "is", addresses[0])
	return nil
}

func fetch(ctx context.Context, url string) error {
	if err := lookUp(ctx, url); err != nil {
		return err
	}
	client := http.Client{Timeout: time.Minute}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func serve(name, port string) error {
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(answer, "%s %s", name, request.URL.Path)
		fmt.Println(request.URL.Path)
	})
	return http.ListenAndServe(":"+port, nil)
}

func askByPgx(ctx context.Context) error {
	if err := lookUp(ctx, os.Getenv("DATABASE_URL")); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err = conn.Exec(ctx, take, 7, "1"); err != nil {
		return err
	}
	return tell(conn.QueryRow(ctx, ask, "1"))
}

func askByPq(ctx context.Context) error {
	if err := lookUp(ctx, os.Getenv("DATABASE_URL")); err != nil {
		return err
	}
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err = db.ExecContext(ctx, take, 7, "1"); err != nil {
		return err
	}
	return tell(db.QueryRowContext(ctx, ask, "1"))
}

func tell(row interface{ Scan(...any) error }) error {
	var stock int64
	var identity string
	if err := row.Scan(&stock, &identity); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"stock": stock, "cluster_name": identity})
}
