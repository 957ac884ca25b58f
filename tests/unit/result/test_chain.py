"""The jobs behind a file are found by what receipts say, so that no list of steps has to be kept."""

from mnasbench.result.chain import jobs_behind


def test_jobs_are_followed_from_what_they_read_to_what_made_it() -> None:
    receipts = {
        "draw.receipt.json": {"started": "1", "folders": {"images": {}}},
        "list.receipt.json": {
            "started": "2",
            "inputs": {"draw.receipt.json": "", "own.txt": ""},
            "outputs": {"l.txt": {}},
        },
        "train.receipt.json": {"started": "3", "inputs": {"images": ""}, "outputs": {"w.pth": {}}},
        "run.receipt.json": {"started": "4", "inputs": {"w.pth": "", "l.txt": ""}, "outputs": {"run.json": {}}},
        "other.receipt.json": {"started": "0", "inputs": {"w.pth": ""}, "outputs": {"other.json": {}}},
    }
    behind = ["draw.receipt.json", "list.receipt.json", "train.receipt.json", "run.receipt.json"]
    assert jobs_behind(["run.json", "never made"], receipts) == behind
    assert jobs_behind(["l.txt"], receipts) == behind[:2]
