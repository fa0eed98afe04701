@echo off
rem Sets Ovi Studio up in .venv and runs it.
rem   launch.bat                 the page on http://localhost:7860
rem   launch.bat check           layout, types, layers and quick tests, in about a minute
rem   launch.bat test            all tests
rem   launch.bat test-gpu        checks on a GPU of 24 GB or more
rem   launch.bat --farm ADDRESS  the page, and other machines that make its clips (docs/farm.md)
rem   launch.bat join ADDRESS    make the clips of another machine's page
rem   launch.bat generate ...    any command of "python -m ovi_studio"
rem Set-up is skipped when requirements.txt and constraints.txt have not changed since the last time; the first check or
rem test also sets up what tests need (the extra "test" of pyproject.toml).
setlocal
cd /d "%~dp0"

if exist .venv\Scripts\python.exe goto ready
set "FOUND="
if defined PYTHON call :try "%PYTHON%"
if not defined FOUND call :try py -3
if not defined FOUND call :try python
if not defined FOUND (
  echo Ovi Studio needs Python 3.11 or newer; install it from python.org, or name it in the variable PYTHON. 1>&2
  exit /b 1
)
echo Setting up in .venv; the first time this downloads some gigabytes ... 1>&2
%FOUND% -m venv --clear .venv || exit /b 1
:ready
call :install .venv\requirements.installed requirements.txt || exit /b 1

if /i "%~1"=="join" call :ray || exit /b 1
echo %* | findstr /c:"--farm" /c:"--ray-address" >nul && (call :ray || exit /b 1)
if "%~1"=="" goto page
set "FIRST=%~1"
if "%FIRST:~0,2%"=="--" goto page
if /i "%FIRST%"=="check" goto check
if /i "%FIRST%"=="test" goto test
if /i "%FIRST%"=="test-gpu" goto gpu
.venv\Scripts\python.exe -m ovi_studio %*
exit /b %errorlevel%

:page
.venv\Scripts\python.exe app.py %*
exit /b %errorlevel%

:check
call :tools || exit /b 1
.venv\Scripts\python.exe tests\check.py
exit /b %errorlevel%

:test
call :tools || exit /b 1
.venv\Scripts\ruff.exe format --check . || exit /b 1
.venv\Scripts\ruff.exe check . || exit /b 1
.venv\Scripts\python.exe -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder %2 %3 %4 %5 %6 %7 %8 %9
exit /b %errorlevel%

:gpu
.venv\Scripts\python.exe tests\gpu %2 %3 %4 %5 %6 %7 %8 %9
exit /b %errorlevel%

:tools
.venv\Scripts\python.exe tests\support\list_test_tools.py test >.venv\test-tools.txt || exit /b 1
call :install .venv\test-tools.installed .venv\test-tools.txt || exit /b 1
rem Alone: torchvision, which spandrel names but works without, fails to import beside another build of torch.
.venv\Scripts\python.exe tests\support\list_test_tools.py improve >.venv\improve.txt || exit /b 1
set "PIP_NO_DEPS=1"
call :install .venv\improve.installed .venv\improve.txt || exit /b 1
set "PIP_NO_DEPS="
exit /b 0

:ray
>.venv\ray.txt echo ray
call :install .venv\ray.installed .venv\ray.txt
exit /b %errorlevel%

rem :install STAMP LIST - what LIST names, unless STAMP says that it was done with LIST and constraints.txt as they are now.
:install
copy /b /y "%~2"+constraints.txt .venv\wanted.txt >nul || exit /b 1
fc /b .venv\wanted.txt "%~1" >nul 2>&1 && exit /b 0
.venv\Scripts\python.exe -m pip install --quiet --disable-pip-version-check -r %2 -c constraints.txt || exit /b 1
rem Last, so that an interrupted set-up is done again.
copy /y .venv\wanted.txt "%~1" >nul
exit /b 0

:try
%* -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>&1 && set "FOUND=%*"
exit /b 0
